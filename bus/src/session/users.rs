//! Other users: who is let in, and what each may do here.
//!
//! A session's [`Rights`] are worked out once, when it begins, from what the kernel says of the peer. A session of
//! our own user has none, which stands for all.

use super::{socket::Credentials, topics::pattern};
use crate::{
    error::JoinError,
    permit::{Allowed, Permit, Whom},
};

/// Stands, in a user namespace, for every user that has no id there (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// The settings that concern other users.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
    pub(crate) permits: Vec<Permit>,
}

impl Users {
    /// Whether nobody but our own user is let in.
    pub(crate) fn is_alone(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Whose sockets may lead to somebody who is let in, besides our own user's. `None`: anybody's.
    pub(crate) fn owners(&self) -> Option<Vec<u32>> {
        if self.is_alone() || !self.gids.is_empty() {
            return None;
        }
        let us = nix::unistd::geteuid().as_raw();
        Some(self.uids.iter().copied().chain([us]).collect())
    }

    /// Whether a process of another user is let in.
    pub(crate) fn admit(&self, them: Credentials) -> bool {
        them.uid != NOBODY && (self.uids.contains(&them.uid) || self.gids.contains(&them.gid))
    }

    /// What a process of another user may do.
    pub(crate) fn rights(&self, uid: u32, gid: u32) -> Rights {
        let meant = |permit: &&Permit| match permit.whom {
            Whom::Uid(of) => of == uid,
            Whom::Gid(of) => of == gid,
            Whom::Anybody => true,
        };
        let mut allowed = Allowed::default();
        for permit in self.permits.iter().filter(meant) {
            allowed.call.extend_from_slice(&permit.allowed.call);
            allowed.bind.extend_from_slice(&permit.allowed.bind);
            allowed.publish.extend_from_slice(&permit.allowed.publish);
            allowed.subscribe.extend_from_slice(&permit.allowed.subscribe);
        }
        Rights(allowed)
    }

    /// Whether the settings make sense.
    pub(crate) fn check(&self) -> Result<(), JoinError> {
        let fail = |setting, value: String, must: &str| {
            Err(JoinError::Config {
                setting,
                value,
                must: must.to_owned(),
            })
        };
        if self.uids.contains(&NOBODY) {
            let must = "of a user of its own: this id stands for all that have none in a user namespace";
            return fail("allow_uids", NOBODY.to_string(), must);
        }
        for permit in &self.permits {
            let named = match permit.whom {
                // Users may also come in by their group.
                Whom::Uid(uid) => self.uids.contains(&uid) || !self.gids.is_empty(),
                Whom::Gid(gid) => self.gids.contains(&gid) || !self.uids.is_empty(),
                Whom::Anybody => !self.is_alone(),
            };
            if !named {
                let must = "for somebody whom `allow_uids` or `allow_gids` lets in";
                return fail("permit", format!("{:?}", permit.whom), must);
            }
            permit.check()?;
        }
        Ok(())
    }
}

/// What the other user of a session may do here.
#[derive(Debug)]
pub(crate) struct Rights(Allowed);

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|known| pattern::matches(known, name))
}

impl Rights {
    pub(crate) fn may_call(&self, name: &str) -> bool {
        any(&self.0.call, name)
    }

    pub(crate) fn may_bind(&self, name: &str) -> bool {
        any(&self.0.bind, name)
    }

    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        any(&self.0.publish, topic)
    }

    pub(crate) fn may_subscribe(&self, topic: &str) -> bool {
        any(&self.0.subscribe, topic)
    }

    /// Whether it may publish anything that this subscription wants.
    pub(crate) fn may_feed(&self, wanted: &str) -> bool {
        self.0.publish.iter().any(|known| pattern::meet(known, wanted))
    }

    /// Whether it has any use for a link to a port of ours.
    pub(crate) fn may_send(&self) -> bool {
        !self.0.call.is_empty() || !self.0.publish.is_empty()
    }

    /// Whether it may be told what the messages of an actor or a topic of ours look like.
    pub(crate) fn may_ask_about(&self, name: &str) -> bool {
        // A subscription of ours is asked about by its pattern.
        self.may_call(name) || self.may_subscribe(name) || self.may_feed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            uids: vec![1001, 1002],
            gids: vec![50],
            permits: vec![
                Permit::uid(1001).call("inventory").subscribe("md.>"),
                Permit::gid(50).publish("md.ticks.*"),
                Permit::anybody().bind("feed.*"),
            ],
        }
    }

    fn of(uid: u32, gid: u32) -> Credentials {
        Credentials { pid: 1, uid, gid }
    }

    #[test]
    fn who_is_named_by_uid_or_gid_is_let_in() {
        let users = users();
        for (who, yes) in [
            (of(1001, 7), true),
            (of(1003, 50), true),
            (of(1003, 7), false),
            (of(0, 0), false),
            (of(NOBODY, 50), false),
        ] {
            assert_eq!(users.admit(who), yes, "{who:?}");
        }
        assert!(!Users::default().admit(of(0, 0)));
    }

    /// A group's members may be anybody: of sockets, the owner alone is looked at.
    #[test]
    fn whose_sockets_are_of_interest_is_known_where_users_are_named_one_by_one() {
        let us = nix::unistd::geteuid().as_raw();
        let named = |uids: &[u32], gids: &[u32]| Users {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
            permits: vec![],
        };
        assert_eq!(named(&[], &[]).owners(), None);
        assert_eq!(named(&[7, 8], &[]).owners(), Some(vec![7, 8, us]));
        assert_eq!(named(&[7, 8], &[50]).owners(), None);
        assert_eq!(named(&[], &[50]).owners(), None);
    }

    #[test]
    fn permits_add_up_and_what_none_names_is_denied() {
        let rights = users().rights(1001, 50);
        assert!(rights.may_call("inventory") && rights.may_subscribe("md.ticks.nasdaq"));
        assert!(rights.may_publish("md.ticks.nasdaq") && rights.may_bind("feed.a"));
        assert!(!rights.may_call("feed.a") && !rights.may_publish("md.ticks") && !rights.may_bind("feed"));
        let rights = users().rights(1002, 7);
        assert!(rights.may_bind("feed.a") && !rights.may_send() && !rights.may_ask_about("md.ticks.nasdaq"));
        assert!(users().rights(1002, 50).may_feed("md.>") && !users().rights(1002, 50).may_feed("orders.>"));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        assert!(users().check().is_ok());
        let one = |permit| Users {
            uids: vec![1001],
            gids: vec![],
            permits: vec![permit],
        };
        for (permit, says) in [
            (Permit::uid(1002).call("a"), "1002"),
            (Permit::uid(1001).publish("a..b"), "a..b"),
            (Permit::uid(1001).call("a b"), "a b"),
        ] {
            let error = one(permit).check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // Who may come in by the other way is not known beforehand.
        let with = |uids: &[u32], gids: &[u32], permit: &Permit| {
            let (uids, gids, permits) = (uids.to_vec(), gids.to_vec(), vec![permit.clone()]);
            Users { uids, gids, permits }.check().is_ok()
        };
        for (permit, (alone, other_uid, other_gid)) in [
            (Permit::uid(7).call("a"), (false, false, true)),
            (Permit::gid(7).call("a"), (false, true, false)),
            (Permit::anybody().call("a"), (false, true, true)),
        ] {
            assert_eq!(with(&[], &[], &permit), alone, "{permit:?}");
            assert_eq!(with(&[8], &[], &permit), other_uid, "{permit:?}");
            assert_eq!(with(&[], &[8], &permit), other_gid, "{permit:?}");
        }
        let nobody = Users {
            uids: vec![NOBODY],
            ..Users::default()
        };
        assert!(nobody.check().is_err());
    }
}
