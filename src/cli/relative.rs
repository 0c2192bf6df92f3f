//! The helper's part when a relative's app is made: a key that lives as long as the command, and the enrolment token that
//! was issued for it. Nothing is kept.

use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use super::questions::Questions;
use crate::client::activation::{EnrolledPhone, thumbprint};
use crate::crypto::DeviceKey;

/// Shows this phone's key, and asks for the token of the relative until there is one for it.
pub(super) async fn enrolled(questions: &mut Questions, output: Output) -> Result<EnrolledPhone, Failure> {
    let key = DeviceKey::generate(&mut rand::rng());
    let device = thumbprint(&key.public());
    let text = format!("This phone's key, which the enrolment token must name (--device):\n{device}");
    output.say(&text, &json!({"event": "device", "thumbprint": device}));
    loop {
        let token = questions.ask("enrolment_token", "Paste the relative's enrolment token:").await?;
        match EnrolledPhone::new(key.clone(), &token) {
            Ok(phone) => return Ok(phone),
            Err(problem) => questions.again(&format!("{problem}; try again")),
        }
    }
}
