//! Short codes, contacts, and meeting again.

use sealwire::{
    Contact, Error, Identity, Invite, MinTrust, PeerTrust, ShortCode, protocol::Event,
    session::Session,
};

use super::support::{Running, assert_works, connect, copy, event, pair, soon};

async fn code(session: &Session) -> ShortCode {
    loop {
        match event(session).await {
            Event::ShortCode { code } => return code,
            Event::Failed { error } => panic!("{error}"),
            _ => {}
        }
    }
}

async fn until(session: &Session, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&event(session).await) {}
}

#[tokio::test]
async fn both_sides_show_one_code_and_confirm_it() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    one.compare_code();
    let (shown, read_out) = (code(&one).await, code(&other).await);
    assert_eq!(shown, read_out);
    one.confirm_code(read_out).unwrap();
    let how = sealwire::trust::Verification::ShortCode;
    assert!(matches!(one.trust(), PeerTrust::Verified { how: by, .. } if by == how));
    // An older code is nobody's word for the session any more.
    other.compare_code();
    let newer = (code(&one).await, code(&other).await);
    assert_eq!(newer.0, newer.1);
    assert_eq!(other.confirm_code(shown), Err(Error::ShortCodeDiffers));
    assert_eq!(other.trust(), PeerTrust::Invited);
}

#[tokio::test]
async fn contacts_by_consent_meet_again_without_an_invite() {
    let server = Running::start().await;
    let identities = [Identity::generate(), Identity::generate()];
    let invite = Invite::new(&identities[0], &server.url()).unwrap();
    let (one, other) = connect(
        Session::builder(identities[0].clone()).invite(copy(&invite)),
        Session::builder(identities[1].clone()).redeem(invite),
    )
    .await;
    assert!(!one.contact("Bob").unwrap().is_paired(), "a mere pin");
    one.make_contact();
    until(&other, |event| matches!(event, Event::ContactRequested)).await;
    other.make_contact();
    for session in [&one, &other] {
        until(session, |event| matches!(event, Event::ContactMade)).await;
    }
    let (bob, alice) = (one.contact("Bob").unwrap(), other.contact("Alice").unwrap());
    assert!(bob.is_paired() && alice.is_paired());
    soon(one.close()).await.unwrap();
    drop((one, other));
    let [first, second] = &identities;
    let meet = |me: &Identity, contact: &Contact| {
        Session::builder(me.clone()).contact(contact, server.url())
    };
    let (one, other) = connect(meet(first, &bob), meet(second, &alice)).await;
    assert_eq!(one.peer(), second.peer_id());
    assert!(one.trust().meets(MinTrust::Invited));
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn a_mere_pin_is_not_met_as_a_contact() {
    let server = Running::start().await;
    let (one, _other) = pair(&server).await;
    let pin = one.contact("Bob").unwrap();
    let refused = Session::builder(Identity::generate()).contact(&pin, server.url());
    let error = soon(refused.connect()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidConfig(_)), "{error}");
}
