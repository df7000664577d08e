//! What the command line adds to lines that leave it out.

use serde_json::value::RawValue;
use sluice_domain::ModelName;

use super::template::Template;

/// The model of short lines where neither the line nor `--model` names one.
pub const DEFAULT_MODEL: &str = "deepseek-flash";
/// What a line may say by fields of its own, not as a parameter.
const RESERVED: [&str; 9] =
    ["model", "messages", "prompt", "system", "id", "custom_id", "priority", "body", "url"];

/// Options that fill in what lines leave out.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FillInArgs {
    /// Make the prompt of each line from its own fields
    ///
    /// `{field}` is replaced by the line's field, `{{` and `}}` stand for braces. Such a line is data: of its other
    /// fields only id, model, system, priority and common parameters such as temperature or max_tokens are
    /// used, and of these none that the template names. Batch lines and lines with `messages` stay as they are.
    /// Example: --template 'Translate into French: {question}'
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
    /// The model for lines that name none
    ///
    /// Without it, short lines ask for deepseek-flash, and batch lines must name their model.
    /// Example: --model deepseek-v4-pro
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The system message for short lines that have none
    ///
    /// Example: --system 'Answer with one word.'
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A request parameter for short lines that don't have it; repeatable
    ///
    /// The value is JSON, or else text. Example: --param max_tokens=200 --param 'thinking={"type":"disabled"}'
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
}

/// The same, checked.
#[derive(Clone, Debug, Default)]
pub struct FillIn {
    /// Makes prompts.
    pub template: Option<Template>,
    /// The model that was named.
    pub model: Option<ModelName>,
    /// The system message.
    pub system: Option<String>,
    /// Request parameters, as JSON.
    pub parameters: Vec<(String, Box<RawValue>)>,
}

impl FillInArgs {
    /// Checks the options; the error is for the user.
    pub fn checked(&self) -> Result<FillIn, String> {
        let template = self.template.as_deref().map(str::parse).transpose();
        let template = template.map_err(|problem: String| format!("--template can't be used: {problem}"))?;
        let model = self.model.as_deref().map(ModelName::new).transpose();
        let parameters = self.parameters.iter().map(|given| parameter(given)).collect::<Result<_, _>>()?;
        Ok(FillIn {
            template,
            model: model.map_err(|error| format!("--model can't be used: {error}"))?,
            system: self.system.clone(),
            parameters,
        })
    }
}

impl FillIn {
    /// Everything that changes requests, as bytes that differ where it differs.
    pub fn fingerprint_parts(&self) -> Vec<Option<&str>> {
        let mut parts = vec![
            self.template.as_ref().map(Template::source),
            self.model.as_ref().map(ModelName::as_str),
            self.system.as_deref(),
        ];
        for (name, value) in &self.parameters {
            parts.push(Some(name));
            parts.push(Some(value.get()));
        }
        parts
    }
}

fn parameter(given: &str) -> Result<(String, Box<RawValue>), String> {
    let (name, value) = given
        .split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or_else(|| format!("--param {given:?} must look like max_tokens=200"))?;
    let name = name.trim();
    if RESERVED.contains(&name) {
        return Err(format!("--param can't set {name}; use the line's field or an option of that name"));
    }
    // One line: the body becomes part of a line of JSON.
    let json = RawValue::from_string(value.trim().to_owned())
        .or_else(|_| serde_json::value::to_raw_value(value))
        .map_err(|error| format!("--param {given:?} can't be used: {error}"))?;
    match super::scan::problem_of(json.get()) {
        Some(problem) => Err(format!("the value of --param {name} {problem}")),
        None => Ok((name.to_owned(), json)),
    }
}
