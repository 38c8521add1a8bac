//! Opening the way to an actor.

use super::*;
use crate::error::{LookupError, SendError};

fn actor(kinds: bool) -> Frame {
    Frame::Bound(Binding {
        name: "actor".to_owned(),
        port: 0,
        mailbox: 0,
        window: 8,
        kinds: if kinds {
            vec![Kind::of::<Number>().info()]
        } else {
            vec![]
        },
    })
}

fn denied() -> Frame {
    let names = vec!["actor".to_owned()];
    let what = Denial::Call;
    Frame::Denied { what, names }
}

async fn route(node: &Arc<Node>, within: Duration) -> Result<crate::session::route::Route, LookupError> {
    let port = node.port_of(PortKey::Shared).unwrap();
    node.route(&port, "actor", &[Kind::of::<Number>()], within).await
}

#[tokio::test]
async fn who_denies_a_name_counts_only_where_nobody_has_it() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    let (mut first, mut second) = (Other::meet(&node), Other::meet_as(&node, "second", 2));
    first.say(&denied());
    first.said().await;
    let found = route(&node, PATIENCE).await;
    assert!(matches!(found, Err(LookupError::Denied { .. })), "{found:?}");
    second.say(&actor(false));
    second.said().await;
    let found = route(&node, PATIENCE).await;
    assert!(matches!(found, Err(LookupError::NotHandled { .. })), "{found:?}");
    node.leave().await;
    let found = route(&node, PATIENCE).await;
    assert!(matches!(found, Err(LookupError::Closed)), "{found:?}");
}

#[tokio::test]
async fn who_loses_a_provider_while_opening_waits_for_the_next_and_else_says_so() {
    let (node, _dir) = node(permit().bind(">"), |config| config).await;
    for within in [PATIENCE, Duration::from_secs(2)] {
        let mut first = Other::meet(&node);
        first.say(&actor(true));
        first.said().await;
        let opening = tokio::spawn({
            let node = node.clone();
            async move { route(&node, within).await }
        });
        while !matches!(first.hear().await, Some(Frame::Link { .. })) {}
        first.say(&Frame::bye(""));
        first.over().await;
        if within < PATIENCE {
            let found = opening.await.unwrap();
            assert!(matches!(found, Err(LookupError::PeerLost { .. })), "{found:?}");
            continue;
        }
        let mut second = Other::meet_as(&node, "second", 2);
        second.say(&actor(true));
        let link = loop {
            if let Some(Frame::Link { link, .. }) = second.hear().await {
                break link;
            }
        };
        second.take(Half::Whole, link);
        let found = opening.await.unwrap().unwrap();
        // And what is sent to one that has gone is refused from the beginning.
        assert_eq!(found.try_tell(0, &Number { n: 1 }), Ok(()));
        second.say(&Frame::bye(""));
        second.over().await;
        let name = "actor".to_owned();
        let lost = SendError::PeerLost { name: name.clone() };
        assert_eq!(found.try_tell(0, &Number { n: 1 }), Err(lost.clone()));
        assert_eq!(found.lend::<Number>(100).map(|_| ()), Err(lost.clone()));
        assert_eq!(found.place(&Number { n: 1 }).map(|_| ()), Err(lost));
        found.port.close();
        assert_eq!(
            found.try_tell(0, &Number { n: 1 }),
            Err(SendError::Closed { name })
        );
        node.port_gone(&found.port);
    }
    node.leave().await;
}
