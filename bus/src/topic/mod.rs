//! Topics: publishing to whoever subscribes, in whatever processes.

mod deliver;
mod in_place;
mod loan;
mod publisher;
mod subscriber;

pub use deliver::{DeliverTo, Delivered};
pub use in_place::{OpenTopicInPlace, PublishInPlace, TopicInPlace};
pub use loan::{OpenTopicLoan, PublishLoan, TopicLoan};
pub use publisher::{OpenPublisher, Publish, Publisher, TopicStats};
pub use subscriber::{Lost, OpenSubscriber, Subscriber, WhenFull};
