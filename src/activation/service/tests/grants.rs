//! Who may start an activation: copy grants, of apps and of phones without one.

use super::*;
use crate::activation::grant::BadGrant;
use crate::activation::ids::UserId;

pub(super) async fn a_deleted_app_ends_the_copies_that_it_granted(rig: Rig) {
    let (old, new, late) = (Phone::new(), Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let grant = rig.grant(app, &old, &late);
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    assert_eq!(rig.service.apps(&rig.by(&old)).await.unwrap().pending[0].id, view.id);
    rig.service.delete_app(&rig.by(&old), app).await.unwrap();
    let typed: UserId = "maria82".parse().unwrap();
    let refused = rig.service.user_id(&rig.by(&new), view.id, &typed).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::Ended(End::GrantorGone)))), "{refused:?}");
    assert!(matches!(rig.start(&late, &grant).await, Err(ServiceError::GrantorNotActive)));
    assert!(matches!(rig.service.apps(&rig.by(&old)).await, Err(ServiceError::UnknownDevice)));
}

#[tokio::test]
async fn a_grant_of_an_unknown_app_another_key_device_or_user_is_refused() {
    let rig = sqlite().await;
    let (old, new, thief) = (Phone::new(), Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let unknown = rig.grant(AppId::from_random([7; 16]), &old, &new);
    assert!(matches!(rig.start(&new, &unknown).await, Err(ServiceError::GrantorNotActive)));
    let forged = rig.grant(app, &thief, &thief);
    assert!(matches!(rig.start(&thief, &forged).await, Err(ServiceError::Grant(BadGrant::Token(_)))));
    let grant = rig.grant(app, &old, &new);
    assert!(matches!(rig.start(&thief, &grant).await, Err(ServiceError::Grant(BadGrant::OtherDevice))));
    rig.start(&new, &grant).await.unwrap();
    let used = rig.start(&Phone { key: new.key.clone() }, &grant).await.unwrap();
    assert_eq!(used.due, Due::UserId, "the same device again");
    rig.pass(Duration::from_mins(6));
    let late = rig.grant(app, &old, &thief);
    rig.pass(Duration::from_mins(6));
    assert!(matches!(rig.start(&thief, &late).await, Err(ServiceError::Grant(BadGrant::Expired))));
}

#[tokio::test]
async fn the_enrolling_phone_can_grant_without_an_app_of_its_own_and_only_once() {
    let rig = sqlite().await;
    let (helper, new, other) = (Phone::new(), Phone::new(), Phone::new());
    let Start::Enrolment(token) = rig.token_for("maria82", Some(&helper)) else { panic!("no token") };
    let grant = |by: &Phone, to: &Phone| {
        let header = json!({"alg": "ES256", "typ": GRANT_TYPE, "jwk": jwk(&by.key)});
        let claims = json!({"cnf": {"jkt": to.thumbprint()}, "th2": TH2, "iat": rig.seconds(),
                            "exp": rig.seconds() + 300, "jti": "1", "enrolment": token.as_str()});
        Start::Copy { grant: jws(&header, &claims, &by.key).into(), transcript: TRANSCRIPT }
    };
    let stolen = rig.start(&other, &grant(&other, &other)).await;
    assert!(matches!(stolen, Err(ServiceError::Grant(BadGrant::OtherDevice))), "{stolen:?}");
    let view = rig.start(&new, &grant(&helper, &new)).await.unwrap();
    assert_eq!(view.due, Due::UserId);
    assert!(matches!(rig.start(&other, &grant(&helper, &other)).await, Err(ServiceError::TokenUsed)));
    let own = rig.start(&helper, &Start::Enrolment(token.clone())).await;
    assert!(matches!(own, Err(ServiceError::TokenUsed)), "one identity proof, one app");
    rig.service.user_id(&rig.by(&new), view.id, &"maria82".parse().unwrap()).await.unwrap();
    assert_eq!(rig.finish(&new, view.id).await.unwrap().due, Due::Active);
}

#[tokio::test]
async fn a_copy_that_has_to_wait_can_be_cancelled_from_the_old_app() {
    let rig = Rig::with(Place::sqlite(), ServiceSettings { copy_wait: Duration::from_hours(1), ..settings() }).await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    assert_eq!((view.due, view.starts_in), (Due::Waiting, Duration::from_hours(1)));
    rig.service.cancel(&rig.by(&old), view.id).await.unwrap();
    rig.service.cancel(&rig.by(&old), view.id).await.unwrap();
    rig.pass(Duration::from_hours(1));
    assert_eq!(rig.service.look(&rig.by(&new), view.id).await.unwrap().end, Some(End::Cancelled));
}
