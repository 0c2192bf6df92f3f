//! The run: users on file, a session whose frames are relayed, a thousand phones at once; then the database is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handoff_relay::activation::https;
use p256::ecdsa::SigningKey;
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::Row as _;
use tempfile::TempDir;

use crate::figures::{Times, quantiles};
use crate::gateway::Gateway;
use crate::phone::{Phone, PreparedPin, STEPS, jwk, jws, key, seconds};
use crate::postgres::Postgres;
use crate::support::eventually;
use crate::support::messages::Transfer;
use crate::support::party::Pair;
use crate::support::relay::{NO_LIMITS, Relay};

/// At once, unless `HANDOFF_TEST_ACTIVATIONS` says another number.
const ACTIVATIONS: usize = 1000;

/// Frames of one session; a few less than it may have.
const FRAMES: usize = 500;

/// Between two frames.
const PACE: Duration = Duration::from_millis(10);

/// How long frames are relayed with nothing beside them.
const ALONE: Duration = Duration::from_secs(5);

fn activations() -> usize {
    std::env::var("HANDOFF_TEST_ACTIVATIONS").ok().map_or(ACTIVATIONS, |text| text.parse().unwrap())
}

/// A service and the proofing system's key.
struct Place {
    folder: TempDir,
    proofing: SigningKey,
    database: Option<String>,
    gateway: Gateway,
}

impl Place {
    fn new(database: Option<String>) -> Self {
        let (folder, proofing) = (TempDir::new().unwrap(), key());
        std::fs::write(folder.path().join("jwks.json"), json!({"keys": [jwk(&proofing)]}).to_string()).unwrap();
        Self { folder, proofing, database, gateway: Gateway::start() }
    }

    fn start(&self) -> Relay {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut settings = vec![
            "activation.enabled=true".to_owned(),
            format!("activation.data_directory={}", path("data")),
            format!("activation.enrolment_jwks_file={}", path("jwks.json")),
            "sms.most_per_address=1000000".to_owned(),
            "sms.most_in_all=1000000".to_owned(),
        ];
        settings.extend(self.gateway.settings());
        settings.extend(self.database.iter().map(|url| format!("activation.database_url={url}")));
        settings.extend(NO_LIMITS.map(str::to_owned));
        Relay::start(&settings.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn database_url(&self) -> String {
        let file = || format!("sqlite://{}", self.folder.path().join("data/registry.sqlite").display());
        self.database.clone().unwrap_or_else(file)
    }

    fn token(&self, user: &str) -> String {
        let jti: u64 = rand::random();
        let claims = json!({"sub": user, "aud": "handoff-activation", "exp": seconds() + 3600, "jti": jti.to_string()});
        jws(&json!({"alg": "ES256"}), &claims, &self.proofing)
    }

    async fn put_on_file(&self, service: &Relay, client: &Client, people: &[(String, String)]) {
        let token = std::fs::read_to_string(self.folder.path().join("data/admin.token")).unwrap();
        for some in people.chunks(500) {
            let users: Vec<Value> = some
                .iter()
                .map(|(user, number)| json!({"user_id": user, "name": "Maria Hansen", "phone": number}))
                .collect();
            let request = client.put(format!("http://{}/v1/admin/users", service.address())).bearer_auth(token.trim());
            assert_eq!(request.json(&json!({"users": users})).send().await.unwrap().status(), 200);
        }
    }
}

/// A session whose frames are relayed and timed by a thread of its own, until it is told to stop.
struct Frames {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Frames {
    fn start(service: &Relay) -> Self {
        let (address, is_over) = (service.address(), Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut times = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let mut pair = Pair::joined(address, Transfer::usual()).await;
                    let (old, new) = (pair.old.as_mut().unwrap(), pair.new.as_mut().unwrap());
                    let mut pace = tokio::time::interval(PACE);
                    for _ in 0..FRAMES {
                        pace.tick().await;
                        let started = Instant::now();
                        old.send_data(&[7; 1024]).await;
                        new.hear_data().await;
                        times.push(started.elapsed());
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
                times
            })
        });
        Self { is_over, thread }
    }

    fn end(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Activations without their app, apps without exactly one entry in the trail, users without exactly one app.
const WRONG: [&str; 3] = [
    "SELECT COUNT(*) AS n FROM activations LEFT JOIN apps ON apps.app_id = activations.app_id \
     WHERE activations.due <> 'active' OR apps.app_id IS NULL",
    "SELECT COUNT(*) AS n FROM apps WHERE 1 <> (SELECT COUNT(*) FROM audit \
     WHERE what = 'app_activated' AND subject = 'app ' || app_id)",
    "SELECT COUNT(*) AS n FROM users WHERE 1 <> (SELECT COUNT(*) FROM apps WHERE apps.user_key = users.user_key)",
];

async fn at_once(what: &str, place: Place) {
    let count = activations();
    let service = place.start();
    let client = https::client(None).unwrap();
    let people: Vec<(String, String)> =
        (0..count).map(|number| (format!("person{number:06}"), format!("+4520{number:06}"))).collect();
    place.put_on_file(&service, &client, &people).await;
    let pin = Arc::new(PreparedPin::new());
    let phones: Vec<(Phone, String)> = people
        .iter()
        .map(|(user, number)| (Phone::new(service.address(), &client, place.gateway.inbox(number)), place.token(user)))
        .collect();
    let frames = Frames::start(&service);
    tokio::time::sleep(ALONE).await;
    let mut alone = frames.end();

    let frames = Frames::start(&service);
    let (cpu, started) = (service.cpu_time(), Instant::now());
    let running: Vec<_> = phones
        .into_iter()
        .map(|(mut phone, token)| {
            let pin = Arc::clone(&pin);
            tokio::spawn(async move {
                phone.activate(token, pin).await;
                (phone.times, phone.again)
            })
        })
        .collect();
    let (mut times, mut again) = (Times::default(), 0);
    for phone in running {
        let (its, tried_again) = phone.await.unwrap();
        times.add(its);
        again += tried_again;
    }
    let (took, cpu) = (started.elapsed(), service.cpu_time().saturating_sub(cpu));
    let mut beside = frames.end();

    let per_second = f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64();
    println!("{what}: {count} activations at once in {:.1} s, {per_second:.0} a second;", took.as_secs_f64());
    println!("  the service computed for {:.1} s; {again} requests were tried again", cpu.as_secs_f64());
    times.print(&STEPS);
    println!("  a relayed frame, alone   {}", quantiles(&mut alone));
    println!("  a relayed frame, beside  {}", quantiles(&mut beside));
    assert_eq!(times.count("notifications"), count);

    sqlx::any::install_default_drivers();
    let database = sqlx::AnyPool::connect(&place.database_url()).await.unwrap();
    let number = async |query: &'static str| sqlx::query(query).fetch_one(&database).await.unwrap().get::<i64, _>("n");
    let wanted = i64::try_from(count).unwrap();
    for query in WRONG {
        assert_eq!(number(query).await, 0, "{query}");
    }
    assert_eq!(
        number("SELECT COUNT(*) AS n FROM apps WHERE state = 'active'").await,
        wanted,
        "none lost, none doubled"
    );
    let accepted = async || number("SELECT COUNT(*) AS n FROM sends WHERE status = 'accepted'").await;
    eventually("SMS written down", accepted, |accepted| *accepted >= wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_activations_at_once_with_a_file() {
    at_once("SQLite", Place::new(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_activations_at_once_with_postgresql() {
    let server = Postgres::shared();
    at_once("PostgreSQL", Place::new(Some(server.database()))).await;
}
