//! An API key as the client holds it: never shown.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};

use crate::Error;

/// An API key. What is shown of it is nothing.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// The value of the metadata `authorization`, marked as sensitive so that no library logs it.
    pub(crate) fn authorization(&self) -> Result<MetadataValue<Ascii>, Error> {
        let key = self.0.trim();
        if key.is_empty() {
            return Err(Error::InvalidApiKey("it is empty"));
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}")
            .parse()
            .map_err(|_| Error::InvalidApiKey("it holds characters that no key has"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl<T: Into<String>> From<T> for ApiKey {
    fn from(key: T) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::ApiKey;

    const CANARY: &str = "sluice_canary0123456789";

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::from(CANARY);
        let value = key.authorization().unwrap();
        assert_eq!(value.to_str().unwrap(), format!("Bearer {CANARY}"));
        assert!(!format!("{key:?}{value:?}").contains("canary"));
    }

    #[test]
    fn a_key_that_can_not_be_sent_is_refused_without_being_repeated() {
        for wrong in ["", " \n", "canary\nof two lines", "canary\u{1f511}\0"] {
            let error = ApiKey::from(wrong).authorization().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn the_line_break_at_the_end_of_a_file_is_no_part_of_a_key() {
        assert_eq!(ApiKey::from("k\n").authorization().unwrap().to_str().unwrap(), "Bearer k");
    }
}
