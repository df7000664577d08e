//! A call in OpenAI's form: the request's body is the job's body. What the queue wants to know besides stands in headers
//! (`call_headers`).

use sluice_domain::{ApiPath, JobId, MAX_BODY_BYTES, ModelName, NewJob, TenantName};

use super::{
    CallWishes, InputFault, InvalidInput,
    fields::{members_of_document, string},
    members::Members,
};

/// A call that is well-formed.
pub(crate) struct NewCall {
    /// What is to be stored.
    pub(crate) job: NewJob,
    /// How its client wants the answer.
    pub(crate) form: AnswerForm,
}

/// How a client wants an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AnswerForm {
    /// In one piece.
    Whole,
    /// As server-sent events, token by token.
    Stream {
        /// Whether it asked for the chunk with the usage at the end, which has no choices: a client that did not ask for
        /// it need not be ready for that.
        wants_usage: bool,
    },
}

/// Checks a call to `path`, whose body is kept byte for byte, and gives its job an id.
pub(crate) fn parse_call(
    body: &[u8],
    path: ApiPath,
    tenant: &TenantName,
    wishes: CallWishes,
) -> Result<NewCall, InvalidInput> {
    if body.len() > MAX_BODY_BYTES {
        return Err(InvalidInput {
            fault: InputFault::TooLarge,
            code: "body_too_large",
            message: format!("the body has {} bytes; at most {MAX_BODY_BYTES} are taken", body.len()),
            pointer: None,
        });
    }
    let members = members_of_document(body)?;
    let model = model(&members)?;
    let form = form(&members, &path);
    let job = NewJob {
        id: JobId::generate(),
        tenant: tenant.clone(),
        queue: wishes.queue,
        path,
        model,
        priority: wishes.priority,
        idempotency_key: wishes.idempotency_key,
        run_at: None,
        deadline: wishes.deadline,
        max_attempts: wishes.max_attempts,
        on_unknown: wishes.on_unknown,
        tags: wishes.tags,
        webhook: None,
        traceparent: None,
        body: body.to_vec(),
    };
    Ok(NewCall { job, form })
}

fn model(members: &Members<'_>) -> Result<ModelName, InvalidInput> {
    let Some(raw) = members.last("model").filter(|raw| raw.get() != "null") else {
        return Err(InvalidInput::at("/model", "missing_field", "model is missing"));
    };
    let name = string("/model".to_owned(), raw)?;
    ModelName::new(name).map_err(|error| InvalidInput::value("/model", error))
}

/// Only completions can be streamed.
fn form(members: &Members<'_>, path: &ApiPath) -> AnswerForm {
    let asks = members.last("stream").is_some_and(|raw| raw.get() == "true");
    if !asks || !path.as_str().ends_with("/completions") {
        return AnswerForm::Whole;
    }
    let options = members.last("stream_options").map(serde_json::value::RawValue::get);
    let options: Option<serde_json::Value> = options.and_then(|text| serde_json::from_str(text).ok());
    AnswerForm::Stream { wants_usage: options.is_some_and(|options| options["include_usage"] == true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<NewCall, InvalidInput> {
        let tenant = TenantName::default_tenant();
        parse_call(body.as_bytes(), ApiPath::default(), &tenant, CallWishes::default())
    }

    #[test]
    fn the_body_is_kept_and_tells_model_and_form() {
        let body = " {\"model\" : \"m\", \"n\":1.10} ";
        let call = parsed(body).unwrap();
        assert_eq!((call.job.body, call.job.model.as_str()), (body.as_bytes().to_vec(), "m"));
        assert_eq!(call.form, AnswerForm::Whole);
        let form = |body: &str| parsed(body).unwrap().form;
        assert_eq!(form(r#"{"model":"m","stream":false}"#), AnswerForm::Whole);
        assert_eq!(form(r#"{"model":"m","stream":true}"#), AnswerForm::Stream { wants_usage: false });
        assert_eq!(
            form(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#),
            AnswerForm::Stream { wants_usage: true }
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (body, code) in [
            ("", "malformed_json"),
            ("[]", "not_an_object"),
            ("{}", "missing_field"),
            (r#"{"model":null}"#, "missing_field"),
            (r#"{"model":1}"#, "invalid_type"),
            (r#"{"model":""}"#, "invalid_value"),
        ] {
            assert_eq!(parsed(body).err().map(|refusal| refusal.code), Some(code), "{body}");
        }
    }
}
