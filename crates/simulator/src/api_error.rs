//! Refusals as the real APIs word them: a status and `{"error":{message,type,param,code}}`. Pure.

use serde_json::{Value, json};

use crate::config::Dialect;

/// A refusal.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: u16,
    /// For people.
    pub(crate) message: String,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    /// Which parameter is wrong.
    pub(crate) param: Option<String>,
    /// For programs.
    pub(crate) code: Option<&'static str>,
    /// Extra headers.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl ApiError {
    pub(crate) fn new(
        status: u16,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, message: message.into(), kind, param: None, code, headers: Vec::new() }
    }

    /// 400 `invalid_request_error`.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", Some("invalid_request_error"), message)
    }

    /// A field that has the wrong type or is missing: DeepSeek says 422 as its parser does, OpenAI 400.
    pub(crate) fn bad_field(dialect: Dialect, param: &str, message: &str) -> Self {
        let error = match dialect {
            Dialect::Deepseek => Self::new(
                422,
                "invalid_request_error",
                Some("invalid_request_error"),
                format!("Failed to deserialize the JSON body into the target type: {param}: {message}"),
            ),
            Dialect::Openai => Self::new(
                400,
                "invalid_request_error",
                None,
                format!("Invalid value for '{param}': {message}"),
            ),
        };
        error.about(param)
    }

    /// A value of the right type that is out of range: 400 in both dialects.
    pub(crate) fn out_of_range(param: &str, message: impl Into<String>) -> Self {
        Self::bad_request(message).about(param)
    }

    pub(crate) fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn missing_key() -> Self {
        let message = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.";
        Self::new(401, "invalid_request_error", Some("invalid_api_key"), message)
    }

    pub(crate) fn wrong_key() -> Self {
        let message = "Authentication Fails, Your api key is invalid";
        Self::new(401, "authentication_error", Some("invalid_api_key"), message)
    }

    pub(crate) fn insufficient_balance() -> Self {
        Self::new(402, "unknown_error", Some("invalid_request_error"), "Insufficient Balance")
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, "invalid_request_error", Some("unknown_url"), format!("Invalid URL ({path})"))
    }

    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}
