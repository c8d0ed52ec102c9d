//! The notify service.

use serde_json::json;

use super::{
    FakeTaskcluster,
    auth::Caller,
    payload::misfit,
    request::{Refusal, Reply, Request},
    state::State,
};

/// A mail that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The recipient.
    pub address: String,
    /// Its subject.
    pub subject: String,
    /// Its Markdown.
    pub content: String,
    /// `simple` or `fullscreen`.
    pub template: String,
}

impl FakeTaskcluster {
    /// The mails that were sent, in order, without those that were discarded.
    pub fn mails(&self) -> Vec<Mail> {
        self.state().mails.clone()
    }

    /// No mail goes to this address any more.
    pub fn denylist(&self, address: &str) {
        self.state().denied.insert(address.to_owned());
    }
}

impl State {
    pub(super) fn email(&mut self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        let body = json!(request.payload());
        let text = json!({ "type": "string" });
        let schema = json!({
            "type": "object",
            "required": ["address", "subject", "content"],
            "properties": { "address": text, "subject": text, "content": text, "template": text, "link": { "type": "object" } },
            "additionalProperties": false,
        });
        if let Some(problem) = misfit(&body, &schema, "data") {
            return Err(Refusal::schema(&problem));
        }
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let template = Some(field("template")).filter(|template| !template.is_empty());
        let mail = Mail {
            address: field("address"),
            subject: field("subject"),
            content: field("content"),
            template: template.unwrap_or_else(|| "simple".to_owned()),
        };
        if mail.subject.chars().count() > 255 || mail.content.chars().count() > 102_400 {
            return Err(Refusal::schema("data must NOT have more characters"));
        }
        caller.needs(format!("notify:email:{}", mail.address))?;
        if self.denied.contains(&mail.address) {
            return Err(Refusal::denylisted(&mail.address));
        }
        if self.mails.contains(&mail) {
            return Ok(Reply::Empty);
        }
        self.mails.push(mail);
        Ok(Reply::Text("OK"))
    }
}
