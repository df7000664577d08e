//! Tries mutants of the SQL functions; `tests/mutants` builds what it needs and calls it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use clap::Parser;
use futures::future::try_join_all;
use sluice_tests::mutants::{Accepted, Hunt, Mutant, MutantServer, Notes, Program, Score, Verdict};

/// Takes the guards out of the SQL functions, one at a time, and says which of them no test misses.
#[derive(Parser)]
struct Arguments {
    /// Functions to try, in this order; `lease*` means all that begin so. All without one.
    functions: Vec<String>,
    /// A test program; repeatable. Earlier ones are asked first.
    #[arg(long = "program", required = true)]
    programs: Vec<String>,
    /// Notes a line of JSON for each test and mutant, and goes on from what is there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Survivors that are all right, with reasons.
    #[arg(long, default_value = "tests/mutants.accepted")]
    accepted: PathBuf,
    /// Only so many, chosen by chance.
    #[arg(long)]
    sample: Option<usize>,
    /// Which chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tries the survivors of the notes once more, as after new tests.
    #[arg(long)]
    again: bool,
    /// Servers that try mutants at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Asks no test that takes longer than so many seconds without a mutant.
    #[arg(long, default_value_t = 3600)]
    within: u64,
    /// Only names the mutants.
    #[arg(long)]
    list: bool,
    /// Only counts what the notes say.
    #[arg(long)]
    score: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let notes = Notes::open(arguments.json.clone())?;
    let accepted = Accepted::read(&arguments.accepted)?;
    if arguments.score {
        print!("{}", Score::of(notes.mutants(), &accepted));
        return Ok(());
    }
    let servers = try_join_all((0..arguments.jobs.max(1)).map(|_| MutantServer::start())).await?;
    let mutants = chosen(&arguments, &servers[0]).await?;
    if arguments.list {
        for Mutant { function, edit, .. } in &mutants {
            println!("{}:{}: {}", function.name, edit.line, edit.what);
        }
        return Ok(());
    }
    let mut untried = mutants;
    untried.retain(|Mutant { function, edit, nth }| {
        let known = notes.mutant(&function.name, &edit.what, *nth);
        known.is_none_or(|known| {
            arguments.again && known.verdict == Verdict::Survived && !accepted.contains(known)
        })
    });
    let programs = arguments.programs.iter().map(|path| Program::new(path)).collect();
    let hunt = Hunt::new(programs, notes, Duration::from_secs(arguments.within));
    hunt.learn(&servers).await?;
    hunt.try_all(&servers, untried).await?;
    print!("{}", Score::of(hunt.into_notes().mutants(), &accepted));
    Ok(())
}

/// All mutants of the functions that were named, or some of them by chance, in the order of the names.
async fn chosen(arguments: &Arguments, server: &MutantServer) -> Result<Vec<Mutant>> {
    let functions = server.functions().await?;
    let all = ["*".to_owned()];
    let named = if arguments.functions.is_empty() { &all } else { arguments.functions.as_slice() };
    let place = |function: &str| {
        named.iter().position(|name| match name.strip_suffix('*') {
            Some(beginning) => function.starts_with(beginning),
            None => function == name,
        })
    };
    let mut placed: Vec<(usize, Mutant)> = Vec::new();
    for function in &functions {
        let Some(place) = place(&function.name) else { continue };
        placed.extend(Mutant::all_of(function).into_iter().map(|mutant| (place, mutant)));
    }
    if let Some(count) = arguments.sample {
        placed.sort_by_key(|(_, mutant)| lot(mutant, arguments.seed));
        placed.truncate(count);
    }
    placed.sort_by(|(a, left), (b, right)| {
        let key = |mutant: &Mutant| (mutant.function.name.clone(), mutant.edit.range.start);
        a.cmp(b).then_with(|| key(left).cmp(&key(right)))
    });
    Ok(placed.into_iter().map(|(_, mutant)| mutant).collect())
}

/// The same for the same mutant and seed.
fn lot(mutant: &Mutant, seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, &mutant.function.name, &mutant.edit.what, mutant.nth).hash(&mut hasher);
    hasher.finish()
}
