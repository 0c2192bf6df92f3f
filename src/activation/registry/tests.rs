#[path = "../../../tests/support/postgres.rs"]
pub(crate) mod postgres;

use std::path::Path;
use std::time::SystemTime;

use p256::ecdsa::SigningKey;
use tempfile::TempDir;

use self::postgres::Postgres;
use super::*;
use crate::activation::flow::{Due, Flow, Step, Way, from_millis};
use crate::activation::ids::{ActivationId, AppId, DeviceKey, UserKey};
use crate::activation::temporary_pin::send_rules::SendRules;
use crate::keyed_hash::HashKey;

/// A database of a test's own.
pub(crate) struct Place {
    pub(crate) location: Location,
    folder: Option<TempDir>,
    server: Option<Arc<Postgres>>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let location = Location::Sqlite(folder.path().join("registry #1.sqlite"));
        Self { location, folder: Some(folder), server: None }
    }

    pub(crate) fn postgres() -> Self {
        let server = Postgres::shared();
        let location = Location::Postgres { url: server.database().into(), connections: 20 };
        Self { location, folder: None, server: Some(server) }
    }

    /// One node more.
    pub(crate) async fn registry(&self) -> Registry {
        let sealer = Sealer::new(&HashKey::new([1; 32]), rand::random);
        let registry = Registry::open(&self.location, sealer).await.unwrap();
        registry.migrate().await.unwrap();
        registry
    }

    fn files(&self) -> &Path {
        self.folder.as_ref().map_or_else(|| self.server.as_ref().unwrap().folder(), TempDir::path)
    }
}

/// Lets a file have no page more than it has, or as many as it likes.
pub(crate) async fn set_full(registry: &Registry, is_full: bool) {
    let pages = sqlx::query("PRAGMA page_count").fetch_one(&registry.pool).await.unwrap().get::<i64, _>(0);
    let most = if is_full { pages } else { 1_000_000 };
    let pragma = format!("PRAGMA max_page_count = {most}");
    sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&registry.pool).await.unwrap();
}

pub(crate) fn device() -> DeviceKey {
    let key = SigningKey::from_slice(&rand::random::<[u8; 32]>()).unwrap();
    DeviceKey::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}

fn now() -> SystemTime {
    from_millis(1_800_000_000_000)
}

fn key() -> UserKey {
    UserKey::from_random(rand::random())
}

/// Puts Maria on file.
async fn maria(registry: &Registry) -> UserKey {
    let mut tx = registry.begin().await.unwrap();
    let user = (&"maria82".parse().unwrap(), "Maria Hansen", &"+4512345678".parse().unwrap());
    let imported = tx.put_user(key(), user, now()).await.unwrap();
    tx.commit().await.unwrap();
    imported.key()
}

fn app(user: UserKey) -> App {
    App {
        id: AppId::from_random(rand::random()),
        user,
        device: device(),
        state: AppState::Active,
        name: "Maria's phone".to_owned().into(),
        model: "Pixel 9".to_owned().into(),
        push_token: Some("push-token-of-maria".to_owned().into()),
        created: now(),
        last_used: now(),
        biometrics: true,
        pin_record: b"record-of-maria".to_vec().into(),
        pin_state: vec![0].into(),
    }
}

fn activation(user: UserKey) -> ActivationRow {
    ActivationRow {
        id: ActivationId::from_random(rand::random()),
        user,
        app: AppId::from_random(rand::random()),
        device: device(),
        flow: Flow::new(Way::ThisPhone, now(), Duration::ZERO, Duration::from_mins(30)),
        name: "Maria's tablet".to_owned().into(),
        model: "Galaxy Tab".to_owned().into(),
    }
}

/// Each rule holds for each database.
macro_rules! contract {
    ($($rule:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Place::sqlite()).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Place::postgres()).await;
            })*
        }
    };
}

contract! {
    what_is_committed_is_there_for_every_node_and_what_is_not_never_was
    a_user_is_found_whatever_the_case_of_the_id
    a_changed_number_is_noted_with_its_time
    an_app_comes_back_as_it_was_written
    an_activation_comes_back_as_it_was_written
    a_device_has_one_activation_and_an_app_one_key
    of_many_at_once_one_uses_a_token
    a_proof_is_new_once
    changes_of_one_row_at_once_are_all_counted
    sends_are_counted_by_number_by_address_and_by_time
    the_audit_trail_only_grows
    an_erased_user_leaves_only_the_audit_trail
    what_is_old_is_swept
    nothing_that_names_a_person_is_in_the_files
    nodes_that_start_at_once_make_the_tables_once
    a_node_with_another_key_is_refused
}

async fn what_is_committed_is_there_for_every_node_and_what_is_not_never_was(place: Place) {
    let (one, other) = (place.registry().await, place.registry().await);
    let user = maria(&one).await;
    let (kept, lost) = (app(user), app(user));
    let mut tx = one.begin().await.unwrap();
    tx.insert_app(&kept).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = one.begin().await.unwrap();
    tx.insert_app(&lost).await.unwrap();
    drop(tx);
    let mut tx = other.begin().await.unwrap();
    assert_eq!(tx.lock_app(kept.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(tx.lock_app(lost.id).await.unwrap(), None);
    assert_eq!(tx.active_apps(user).await.unwrap(), [kept]);
}

async fn a_user_is_found_whatever_the_case_of_the_id(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let mut tx = registry.begin().await.unwrap();
    let found = tx.lock_user_by_id(&" MARIA82".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((found.key, found.name.as_str(), found.phone.expose()), (user, "Maria Hansen", "+4512345678"));
    assert_eq!(tx.lock_user(user).await.unwrap(), Some(found));
    assert_eq!(tx.lock_user_by_id(&"maria83".parse().unwrap()).await.unwrap(), None);
    assert_eq!(tx.lock_user(key()).await.unwrap(), None);
}

async fn a_changed_number_is_noted_with_its_time(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let mut tx = registry.begin().await.unwrap();
    let id = "maria82".parse().unwrap();
    let (old, new) = ("+4512345678".parse().unwrap(), "+4587654321".parse().unwrap());
    let later = now() + Duration::from_hours(1);
    assert_eq!(tx.put_user(key(), (&id, "Maria Hansen", &old), later).await.unwrap(), Imported::Same(user));
    assert_eq!(tx.put_user(key(), (&id, "Maria Holm", &old), later).await.unwrap(), Imported::Changed(user));
    assert_eq!(tx.lock_user(user).await.unwrap().unwrap().number_changed, None);
    assert_eq!(tx.put_user(key(), (&id, "Maria Holm", &new), later).await.unwrap(), Imported::NumberChanged(user));
    let found = tx.lock_user(user).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.phone, found.number_changed), ("Maria Holm", new, Some(later)));
}

async fn an_app_comes_back_as_it_was_written(place: Place) {
    let registry = place.registry().await;
    let mut written = app(maria(&registry).await);
    let mut tx = registry.begin().await.unwrap();
    tx.insert_app(&written).await.unwrap();
    let thumbprint = crate::activation::ids::Thumbprint::of(&written.device);
    assert_eq!(tx.app_of_device(thumbprint).await.unwrap(), Some(written.clone()));
    written = App {
        state: AppState::Deleted,
        name: "Old phone".to_owned().into(),
        push_token: None,
        biometrics: false,
        last_used: now() + Duration::from_millis(1),
        pin_state: vec![7].into(),
        ..written
    };
    tx.update_app(&written).await.unwrap();
    assert_eq!(tx.lock_app(written.id).await.unwrap(), Some(written.clone()));
    assert_eq!(tx.active_apps(written.user).await.unwrap(), []);
}

async fn an_activation_comes_back_as_it_was_written(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let mut row = activation(user);
    let mut tx = registry.begin().await.unwrap();
    tx.insert_activation(&row, now()).await.unwrap();
    assert_eq!(tx.lock_activation(row.id).await.unwrap(), Some(row.clone()));
    let thumbprint = crate::activation::ids::Thumbprint::of(&row.device);
    assert_eq!(tx.lock_activation_of_device(thumbprint).await.unwrap(), Some(row.clone()));
    assert_eq!(tx.running_activations(user, now()).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(tx.running_activations(user, row.flow.expires()).await.unwrap(), []);
    row.flow.handle(Step::Cancel, now()).unwrap();
    tx.update_activation(&row, now()).await.unwrap();
    let found = tx.lock_activation(row.id).await.unwrap().unwrap();
    assert_eq!(found.flow.due(now()), Due::Ended);
    assert_eq!(tx.running_activations(user, now()).await.unwrap(), []);
}

async fn a_device_has_one_activation_and_an_app_one_key(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let (one, first) = (activation(user), app(user));
    let mut tx = registry.begin().await.unwrap();
    tx.insert_activation(&one, now()).await.unwrap();
    tx.insert_app(&first).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = registry.begin().await.unwrap();
    assert!(tx.insert_activation(&ActivationRow { device: one.device, ..activation(user) }, now()).await.is_err());
    drop(tx);
    let mut tx = registry.begin().await.unwrap();
    assert!(tx.insert_app(&App { device: first.device, ..app(user) }).await.is_err());
    drop(tx);
    let mut tx = registry.begin().await.unwrap();
    assert!(tx.insert_app(&app(key())).await.is_err(), "an app of nobody");
}

async fn of_many_at_once_one_uses_a_token(place: Place) {
    let (one, other) = (place.registry().await, place.registry().await);
    let mut tasks = tokio::task::JoinSet::new();
    for user in 0..20 {
        let registry = if user % 2 == 0 { one.clone() } else { other.clone() };
        tasks.spawn(async move {
            let mut tx = registry.begin().await.unwrap();
            let is_mine = tx.use_once([5; 32], &user.to_string(), now()).await.unwrap();
            tx.commit().await.unwrap();
            is_mine.then_some(user)
        });
    }
    let winners: Vec<i32> = tasks.join_all().await.into_iter().flatten().collect();
    let [winner] = winners[..] else { panic!("{winners:?}") };
    let mut tx = one.begin().await.unwrap();
    assert!(tx.use_once([5; 32], &winner.to_string(), now()).await.unwrap(), "the same user may come again");
    assert!(!tx.use_once([5; 32], "another", now()).await.unwrap());
    assert!(tx.use_once([6; 32], "another", now()).await.unwrap());
}

async fn a_proof_is_new_once(place: Place) {
    let registry = place.registry().await;
    let mut tx = registry.begin().await.unwrap();
    assert!(tx.is_first_use([1; 32], now()).await.unwrap());
    assert!(!tx.is_first_use([1; 32], now()).await.unwrap());
    assert!(tx.is_first_use([2; 32], now()).await.unwrap());
}

async fn changes_of_one_row_at_once_are_all_counted(place: Place) {
    let (one, other) = (place.registry().await, place.registry().await);
    let written = app(maria(&one).await);
    let mut tx = one.begin().await.unwrap();
    tx.insert_app(&written).await.unwrap();
    tx.commit().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let registry = if number % 2 == 0 { one.clone() } else { other.clone() };
        tasks.spawn(async move {
            let mut tx = registry.begin().await.unwrap();
            let mut app = tx.lock_app(written.id).await.unwrap().unwrap();
            app.pin_state = vec![app.pin_state[0] + 1].into();
            tokio::task::yield_now().await;
            tx.update_app(&app).await.unwrap();
            tx.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let mut tx = one.begin().await.unwrap();
    assert_eq!(*tx.lock_app(written.id).await.unwrap().unwrap().pin_state, [20]);
}

async fn sends_are_counted_by_number_by_address_and_by_time(place: Place) {
    let registry = place.registry().await;
    let mut tx = registry.begin().await.unwrap();
    let rules = SendRules::default();
    let at = |minutes: u64| now() + Duration::from_mins(minutes);
    for (number, address, minute) in [(1, 1, 0), (1, 2, 10), (2, 2, 11)] {
        tx.insert_send([number; 32], [address; 32], at(minute)).await.unwrap();
    }
    let counts = tx.count_sends([1; 32], [2; 32], &rules, at(12)).await.unwrap();
    assert_eq!((counts.to_number.count, counts.to_number.oldest), (2, Some(at(0))));
    assert_eq!((counts.from_address.count, counts.from_address.oldest), (2, Some(at(10))));
    assert_eq!(counts.in_all.count, 3);
    let later = tx.count_sends([1; 32], [2; 32], &rules, at(15)).await.unwrap();
    assert_eq!((later.to_number.count, later.to_number.oldest), (1, Some(at(10))));
    let nobody = tx.count_sends([9; 32], [9; 32], &rules, at(12)).await.unwrap();
    assert_eq!((nobody.to_number.count, nobody.to_number.oldest), (0, None));
}

async fn the_audit_trail_only_grows(place: Place) {
    let registry = place.registry().await;
    let user = key();
    let app = AppId::from_random(rand::random());
    let mut tx = registry.begin().await.unwrap();
    let from = (Actor::NewApp, Some("192.0.2.7".parse().unwrap()));
    tx.note(What::AppActivated, from, (user, Subject::App(app)), now()).await.unwrap();
    tx.note(What::AppDeleted, (Actor::App(app), None), (user, Subject::App(app)), now()).await.unwrap();
    tx.commit().await.unwrap();
    for statement in ["UPDATE audit SET what = 'nothing'", "DELETE FROM audit"] {
        let mut tx = registry.begin().await.unwrap();
        assert!(sqlx::query(statement).execute(&mut *tx.inner).await.is_err(), "{statement}");
    }
    let mut tx = registry.begin().await.unwrap();
    let entries = tx.audit_of(user, 0, 1000).await.unwrap();
    let whats: Vec<&str> = entries.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(whats, ["app_activated", "app_deleted"]);
    assert_eq!((entries[0].network.as_str(), entries[0].at), ("192.0.2.0/24", now()));
    assert_eq!(entries[1].actor, format!("app {app}"));
}

async fn an_erased_user_leaves_only_the_audit_trail(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let (app, activation) = (app(user), activation(user));
    let mut tx = registry.begin().await.unwrap();
    tx.insert_app(&app).await.unwrap();
    tx.insert_activation(&activation, now()).await.unwrap();
    let found = tx.lock_user(user).await.unwrap().unwrap();
    let number = registry.sealer().number_tag(&found.phone);
    tx.insert_send(number, [0; 32], now()).await.unwrap();
    tx.note(What::UserErased, (Actor::Admin, None), (user, Subject::User), now()).await.unwrap();
    tx.erase_user(&found).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = registry.begin().await.unwrap();
    assert_eq!(tx.lock_user(user).await.unwrap(), None);
    assert_eq!(tx.lock_app(app.id).await.unwrap(), None);
    assert_eq!(tx.lock_activation(activation.id).await.unwrap(), None);
    let sends = tx.count_sends(number, [0; 32], &SendRules::default(), now()).await.unwrap();
    assert_eq!(sends.in_all.count, 0);
    assert_eq!(tx.audit_of(user, 0, 1000).await.unwrap().len(), 1);
}

async fn what_is_old_is_swept(place: Place) {
    let registry = place.registry().await;
    let row = activation(maria(&registry).await);
    let mut tx = registry.begin().await.unwrap();
    tx.insert_activation(&row, now()).await.unwrap();
    tx.insert_send([1; 32], [1; 32], now()).await.unwrap();
    assert!(tx.is_first_use([1; 32], now()).await.unwrap());
    let late = now() + Duration::from_hours(1);
    assert_eq!(tx.sweep(now(), now()).await.unwrap(), 0);
    assert!(!tx.is_first_use([1; 32], now()).await.unwrap());
    assert_eq!(tx.sweep(late, late).await.unwrap(), 1);
    assert_eq!(tx.lock_activation(row.id).await.unwrap(), None);
    assert!(tx.is_first_use([1; 32], now()).await.unwrap());
    assert_eq!(tx.count_sends([1; 32], [1; 32], &SendRules::default(), now()).await.unwrap(), SendCounts::default());
}

/// Whether any file below holds these bytes.
fn is_anywhere(folder: &Path, needle: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_anywhere(&path, needle);
        }
        // Sockets, and files that are gone by now.
        String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).contains(needle)
    })
}

async fn nothing_that_names_a_person_is_in_the_files(place: Place) {
    let registry = place.registry().await;
    let user = maria(&registry).await;
    let (app, mut activation) = (app(user), activation(user));
    activation.name = "Maria's watch".to_owned().into();
    let mut tx = registry.begin().await.unwrap();
    tx.insert_app(&app).await.unwrap();
    tx.insert_activation(&activation, now()).await.unwrap();
    tx.commit().await.unwrap();
    registry.close().await;
    let files = place.files();
    assert!(is_anywhere(files, &app.id.to_string()), "the search finds what is there");
    for secret in ["maria82", "Maria Hansen", "Maria's", "4512345678", "push-token", "record-of", "Pixel", "Galaxy"] {
        assert!(!is_anywhere(files, secret), "{secret}");
    }
}

async fn nodes_that_start_at_once_make_the_tables_once(place: Place) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let location = place.location.clone();
        tasks.spawn(async move {
            let registry = Registry::open(&location, Sealer::new(&HashKey::new([1; 32]), rand::random)).await.unwrap();
            registry.migrate().await.unwrap();
        });
    }
    tasks.join_all().await;
    maria(&place.registry().await).await;
}

async fn a_node_with_another_key_is_refused(place: Place) {
    let (one, other) = (place.registry().await, place.registry().await);
    one.check_keys(&[("registry.key", [1; 32]), ("another.key", [2; 32])]).await.unwrap();
    other.check_keys(&[("registry.key", [1; 32]), ("another.key", [2; 32])]).await.unwrap();
    let refused = other.check_keys(&[("registry.key", [1; 32]), ("another.key", [3; 32])]).await;
    assert!(matches!(refused, Err(RegistryError::OtherKey(name)) if name == "another.key"));
    one.check_keys(&[("another.key", [2; 32])]).await.unwrap();
}
