//! Channels beside the main one.

use sealwire::{
    Config, Error,
    session::{Builder, ChannelKind, Session},
};

use super::support::{
    Running, assert_works, connect, give_up_after, invited, soon, texts_until_closed,
};

/// Four of these fill the smallest window, five do not fit.
const BODY: usize = 60_000;

fn with_channels(builder: Builder) -> Builder {
    let mut config = Config::default();
    config.limits.window = 262_144;
    config.limits.max_message = 65_536;
    builder
        .config(config)
        .channel("bulk", ChannelKind::Reliable)
        .channel("chat", ChannelKind::Reliable)
        .channel("cursor", ChannelKind::Lossy)
}

async fn pair(server: &Running) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    connect(with_channels(inviter), with_channels(redeemer)).await
}

#[tokio::test]
async fn a_slow_consumer_of_one_channel_does_not_stop_the_others() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let (bulk, _) = one.channel("bulk").unwrap();
    let (_, mut slow) = other.channel("bulk").unwrap();
    for n in 0..4 {
        soon(bulk.send(vec![n; BODY])).await.unwrap();
    }
    let mut fifth = Box::pin(bulk.send(vec![4; BODY]));
    assert!(give_up_after(200, fifth.as_mut()).await.is_none());

    let (chat, mut replies) = one.channel("chat").unwrap();
    let (reply, mut chats) = other.channel("chat").unwrap();
    for n in 0..100 {
        let delivery = soon(chat.send(n.to_string())).await.unwrap();
        let message = soon(chats.recv()).await.unwrap().unwrap();
        assert_eq!(message.content.as_text(), Some(n.to_string().as_str()));
        assert_eq!((message.id, message.id.channel()), (delivery.id(), 3));
        soon(delivery.delivered()).await.unwrap();
        soon(reply.send("read")).await.unwrap();
        assert!(soon(replies.recv()).await.unwrap().is_ok());
    }
    assert_works(&one, &other).await;
    assert!(give_up_after(20, fifth.as_mut()).await.is_none());

    for n in 0..5 {
        let message = soon(slow.recv()).await.unwrap().unwrap();
        assert_eq!(message.content.as_bytes().unwrap()[0], n);
        if n == 0 {
            soon(fifth.as_mut()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lossy_channel_carries_what_fits_one_frame_and_never_waits() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let (cursor, mut cursors) = one.lossy_channel("cursor").unwrap();
    let (far, mut fars) = other.lossy_channel("cursor").unwrap();
    assert_eq!(cursor.max_len(), 65_536 - 25);
    let error = cursor.send(vec![7; cursor.max_len() + 1]).unwrap_err();
    let (len, max) = (65_536 - 24, 65_536 - 25);
    assert_eq!(error, Error::MessageTooLarge { len, max });
    for (sender, receiver) in [(&cursor, &mut fars), (&far, &mut cursors)] {
        for len in [0, 5, 1_000, sender.max_len()] {
            let body = vec![u8::try_from(len % 251).unwrap(); len];
            // Any of them may be lost.
            let came = loop {
                sender.send(body.clone()).unwrap();
                let came = soon(receiver.recv());
                if let Ok(came) = tokio::time::timeout(sender_patience(), came).await {
                    break came.unwrap();
                }
            };
            assert!(came == body || came.len() < len, "an older one at most");
            while give_up_after(50, receiver.recv()).await.is_some() {}
        }
        // Far more than may wait, in one go: the session lives, and takes what it can.
        for n in 0..5_000_u32 {
            sender.send(n.to_be_bytes().repeat(100)).unwrap();
        }
    }
    assert_works(&one, &other).await;
    soon(one.close()).await.unwrap();
    assert!(texts_until_closed(&other).await.is_empty());
    while soon(fars.recv()).await.is_some() {}
    assert!(matches!(far.send("late"), Err(Error::Closed { .. })));
}

/// When the same is sent again.
fn sender_patience() -> std::time::Duration {
    std::time::Duration::from_millis(500)
}

///
#[tokio::test]
async fn a_channel_that_one_side_lacks_is_not_there() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let (one, other) = connect(
        inviter
            .channel("a", ChannelKind::Reliable)
            .channel("b", ChannelKind::Reliable)
            .channel("c", ChannelKind::Lossy),
        redeemer
            .channel("a", ChannelKind::Reliable)
            .channel("b", ChannelKind::Lossy),
    )
    .await;
    for session in [&one, &other] {
        assert!(session.channel("a").is_some());
        assert!(session.lossy_channel("a").is_none(), "it is reliable");
        assert!(session.channel("b").is_none() && session.lossy_channel("b").is_none());
        assert!(session.lossy_channel("c").is_none());
        assert!(session.channel("main").is_none() && session.channel("d").is_none());
    }
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn a_receiver_gets_what_was_sent_before_the_close_and_then_the_end() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let (chat, _) = one.channel("chat").unwrap();
    let (_, mut chats) = other.channel("chat").unwrap();
    let sending = async {
        for n in 0..300 {
            chat.send(n.to_string()).await.unwrap();
        }
        one.close().await.unwrap();
    };
    let taking = async {
        let mut texts = Vec::new();
        while let Some(message) = chats.recv().await {
            texts.push(message.unwrap().content.as_text().unwrap().to_owned());
        }
        texts
    };
    let ((), texts) = soon(async { tokio::join!(sending, taking) }).await;
    let expected: Vec<String> = (0..300).map(|n: u32| n.to_string()).collect();
    assert_eq!(texts, expected);
    assert!(texts_until_closed(&other).await.is_empty());
}
