use std::io::Write;

use crate::SecretRef;

#[test]
fn a_secret_is_had_from_the_environment_or_a_file_and_never_shown() {
    let variable = |name: &str| (name == "KEY").then(|| "sk-secret\n".to_owned());
    let secret = SecretRef::Environment("KEY".to_owned()).resolve(variable).unwrap();
    assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("sk-secret", "Secret(…)"));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"sk-from-file\r\n").unwrap();
    let secret = SecretRef::File(file.path().to_owned()).resolve(|_| None).unwrap();
    assert_eq!(secret.expose(), "sk-from-file");
}

#[test]
fn a_secret_that_is_not_there_is_told_by_its_reference() {
    let error = |reference: SecretRef, value: Option<&str>| {
        reference.resolve(|_| value.map(str::to_owned)).unwrap_err().to_string()
    };
    let key = || SecretRef::Environment("KEY".to_owned());
    assert_eq!(error(key(), None), "the environment variable KEY is not set");
    assert_eq!(error(key(), Some(" ")), "the environment variable KEY is not set");
    assert_eq!(error(key(), Some("a\nb")), "the secret at ${KEY} is empty or holds control characters");
    assert_eq!(error(SecretRef::File("/no/such/key".into()), None), "read the secret in /no/such/key");
}
