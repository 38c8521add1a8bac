use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Wake},
};

use super::*;
use crate::{config::Config, session::node::PortKey};

#[derive(crate::ShmMessage, Debug)]
struct Number {
    n: u64,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whoever registers after the end would sleep for ever.
#[tokio::test]
async fn a_closed_mailbox_takes_no_waker_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::join(Config::new("node").dir(dir.path())).await.unwrap();
    let port = node.port_of(PortKey::Shared).unwrap();
    let mailbox = node.bind(&port, "name", vec![Kind::of::<Number>()], 8).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let task = Context::from_waker(&waker);
    let take = |task| mailbox.take(&mut Deliveries::default(), task);
    assert!(take(Some(&task)).is_none() && !mailbox.is_ready(Some(&task)) && !mailbox.is_ready(None));
    mailbox.close();
    assert_eq!(
        count.0.load(Ordering::SeqCst),
        1,
        "who sleeps is woken by the end"
    );
    assert_eq!(take(Some(&task)), Some(Taken::Closed));
    assert!(mailbox.is_ready(Some(&task)) && mailbox.is_ready(None));
    assert!(lock(&mailbox.queue).waker.is_none());
    node.leave().await;
}
