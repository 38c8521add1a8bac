//! Hello, second half: another process, which asks and tells the actor of `hello-server`.
//!
//! Start it first or second: looking up a name waits until somebody binds it.

use shmbus::prelude::*;
use shmbus_examples::{Failure, Greet, Note};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    // Node names are unique on a bus. With the process id in it, any number of clients can run at once.
    let bus = Bus::join(&format!("hello-client-{}", std::process::id())).await?;

    // The address is typed by the messages it takes. It waits (10 s unless told otherwise) for the name `host`
    // and checks once that both processes mean the same thing by these types.
    let host = bus.address::<(Greet, Note)>("host").await?;

    // An ask waits for the reply. `greeting` is read in place too, and gives its memory back when dropped.
    let greeting = host.ask(&Greet { name: "world".into() }).await?;
    println!("{} ({} greeted before)", greeting.text.as_str(), greeting.before);

    // A tell does not wait for a reply, only for room if the server is slow. Once it returned `Ok`, the
    // message arrives even if this process ends at once.
    host.tell(&Note {
        text: format!("process {} says goodbye", std::process::id()),
    })
    .await?;

    bus.leave().await;
    Ok(())
}
