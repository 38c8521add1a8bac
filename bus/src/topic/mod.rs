//! Topics: publishing to whoever subscribes, in whatever processes.

mod deliver;
mod publisher;
mod subscriber;

pub use deliver::{DeliverTo, Delivered};
pub use publisher::{OpenPublisher, Publish, Publisher, TopicStats};
pub use subscriber::{Lost, OpenSubscriber, Subscriber, WhenFull};
