//! A migration that is added changes no file that the compiler knows of: build again when the folder changes.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
