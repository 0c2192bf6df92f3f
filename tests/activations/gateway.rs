//! An SMS gateway on loopback that takes as long as a real one, and brings each message to the phone that it is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;
use tokio::sync::mpsc;

/// What a gateway on the internet takes to answer.
const ANSWERS_AFTER: Duration = Duration::from_millis(200);

/// SMS that wait for one phone.
const SMS_OF_ONE: usize = 8;

type Inboxes = Arc<Mutex<HashMap<String, mpsc::Sender<String>>>>;

/// The gateway; it ends with the process.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    address: String,
    inboxes: Inboxes,
}

impl Gateway {
    pub(crate) fn start() -> Self {
        let inboxes = Inboxes::default();
        let (shared, (sender, address)) = (Arc::clone(&inboxes), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app =
                    move || App::new().app_data(web::Data::new(Arc::clone(&shared))).default_service(web::to(take));
                let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
                sender.send(format!("http://{}/", server.addrs()[0])).unwrap();
                server.run().await.unwrap();
            });
        });
        Self { address: address.recv().unwrap(), inboxes }
    }

    /// The settings of a service that sends its SMS here.
    pub(crate) fn settings(&self) -> Vec<String> {
        let body = r#"{"to": "{to}", "text": "{text}", "key": "{key}"}"#;
        vec!["sms.gateway=http".to_owned(), format!("sms.url={}", self.address), format!("sms.body={body}")]
    }

    /// Where the PINs for a number arrive.
    pub(crate) fn inbox(&self, number: &str) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(SMS_OF_ONE);
        self.inboxes.lock().unwrap().insert(number.to_owned(), sender);
        receiver
    }
}

async fn take(inboxes: web::Data<Inboxes>, body: web::Bytes) -> HttpResponse {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let text = message["text"].as_str().unwrap();
    let pin = text.rsplit_once('#').unwrap().1[..8].to_owned();
    tokio::time::sleep(ANSWERS_AFTER).await;
    let inbox = inboxes.lock().unwrap().get(message["to"].as_str().unwrap()).cloned();
    // A phone that has what it needs is not there any more.
    inbox.unwrap().try_send(pin).ok();
    HttpResponse::Ok().json(serde_json::json!({"id": message["key"]}))
}
