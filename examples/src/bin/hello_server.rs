//! Hello, first half: an actor that other processes can talk to.
//!
//! ```sh
//! cargo run --bin hello-server      # in one terminal
//! cargo run --bin hello-client      # in another, before or after
//! ```

use actix::prelude::*;
use shmbus::prelude::*;
use shmbus_examples::{Failure, Greet, Greeting, Note};

/// An ordinary actix actor. Its state needs no lock: one message is handled at a time.
#[derive(Default)]
struct Host {
    greeted: u64,
}

impl Actor for Host {
    type Context = Context<Self>;
}

/// An ordinary actix handler. `Received<Greet>` is the sender's message, read where it lies in shared memory:
/// `msg.name` is an archived string, and `as_str` borrows its bytes without copying them.
impl Handler<Received<Greet>> for Host {
    type Result = MessageResult<Received<Greet>>;

    fn handle(&mut self, msg: Received<Greet>, _: &mut Context<Self>) -> Self::Result {
        let before = self.greeted;
        self.greeted += 1;
        MessageResult(Greeting {
            text: format!("Hello, {}!", msg.name.as_str()),
            before,
        })
    }
}

impl Handler<Received<Note>> for Host {
    type Result = ();

    fn handle(&mut self, msg: Received<Note>, _: &mut Context<Self>) {
        println!("note: {}", msg.text.as_str());
    }
}

#[actix::main]
async fn main() -> Result<(), Failure> {
    // Every process joins under a name of its own. There is no daemon to start: joining is all.
    let bus = Bus::join("hello-server").await?;
    // The actor gets a name on the bus, and takes the messages that are listed here.
    bus.bind("host", Host::default())
        .handles::<Greet>()
        .handles::<Note>()
        .start()
        .await?;
    println!("ready; Ctrl-C ends");
    tokio::signal::ctrl_c().await?;
    bus.leave().await;
    Ok(())
}
