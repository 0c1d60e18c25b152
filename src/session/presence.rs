//! Who is in the channels a client follows: it is one of them itself where it has a user id and the rule has presence.

use std::sync::Arc;

use super::{Policy, Session};
use crate::channel::{ChannelName, Member};
use crate::hub::{Present, Roll, Rule};
use crate::protocol::{self, Code, Reference, Reply};

/// What [`Session::attend`] comes to; nothing where the rule has no presence.
pub(super) type Attended = Option<(Box<Present>, Roll)>;

impl Session {
    /// Makes the client present where the rule says so, and reads who is there. `kept` is its presence from before, so that
    /// nobody sees it leave and come back.
    pub(super) async fn attend(
        &self,
        rule: &Rule,
        channel: &ChannelName,
        kept: Option<Box<Present>>,
    ) -> Result<Attended, Reply> {
        let Some(attendance) = rule.presence else { return Ok(None) };
        let member = self.who.user.clone().map(|user| Member { user, info: self.who.info.clone() });
        let attended = match kept {
            Some(mut kept) => kept.renew(member, attendance).await.map(|roll| (kept, roll)),
            None => self.shared.hub.attend(channel, self.outbox.id, member, attendance).await,
        };
        attended.map(Some).map_err(|error| {
            self.shared.metrics.rejected(Code::Unavailable);
            Reply::error(Code::Unavailable, error.to_string())
        })
    }

    /// Begins and ends to be present where newer rules say so, and tells the client who is there from now on.
    pub(super) async fn obey_presence(&mut self, policy: &Policy) {
        for at in 0..self.following.len() {
            let channel = self.following[at].subscription.channel().clone();
            let Some(rule) = policy.rules.find(&channel) else { continue };
            let kept = self.following[at].present.take();
            match (kept, rule.presence) {
                (None, None) => {}
                (Some(kept), None) => {
                    kept.end();
                    self.say(&members(channel, Roll::Everybody(Vec::new())));
                }
                (Some(kept), Some(attendance)) => {
                    kept.bound(attendance);
                    self.following[at].present = Some(kept);
                }
                (None, Some(_)) => match self.attend(rule, &channel, None).await {
                    Ok(Some((present, roll))) => {
                        self.say(&members(channel, roll));
                        present.go_on();
                        self.following[at].present = Some(present);
                    }
                    Ok(None) => {}
                    Err(error) => self.say(&error.about(Some(&channel), None)),
                },
            }
        }
    }

    /// The client is to be told the whole list, once there is room for it.
    pub fn list_again(&mut self, channel: ChannelName) {
        if !self.listing.contains(&channel) {
            self.listing.push(channel);
        }
    }

    pub(super) async fn list(&mut self, channel: ChannelName) {
        let Ok(at) = self.position(&channel) else { return };
        let Some(attendance) = self.shared.policy().rules.find(&channel).and_then(|it| it.presence) else { return };
        let Some(present) = &self.following[at].present else { return };
        match present.roll(attendance).await {
            Ok(roll) => self.say(&members(channel, roll)),
            Err(error) => {
                let text = format!("who is there is not known, subscribe again: {error}");
                self.say(&Reply::error(Code::Unavailable, text).about(Some(&channel), None));
            }
        }
        present.go_on();
    }

    /// Answers who is in a channel: its subscribers may know.
    pub(super) async fn presence(&mut self, channel: ChannelName, limit: usize, reference: Option<Reference>) {
        let refuse = |it: &Self, code, message: String| {
            it.shared.metrics.rejected(code);
            it.say(&Reply::error(code, message).about(Some(&channel), reference.clone()));
        };
        let Ok(at) = self.position(&channel) else {
            return refuse(self, Code::NotSubscribed, "presence is for subscribers of the channel".into());
        };
        if self.following[at].present.is_none() {
            return refuse(self, Code::NotAllowed, "the channel's rule has no presence".into());
        }
        match self.shared.hub.members(&channel, limit).await {
            Ok(it) => {
                self.say(&Reply::Presence { channel, members: shown(&it.members), total: it.total, reference });
            }
            Err(error) => refuse(self, Code::Unavailable, error.to_string()),
        }
    }
}

fn members(channel: ChannelName, roll: Roll) -> Reply {
    match roll {
        Roll::Everybody(all) => Reply::Members { channel, total: all.len(), members: Some(shown(&all)) },
        Roll::Number(total) => Reply::Members { channel, members: None, total },
    }
}

/// What `subscribed` says of who is there.
pub(super) fn told(roll: Roll) -> Box<protocol::Roll> {
    Box::new(match roll {
        Roll::Everybody(all) => protocol::Roll::Everybody(shown(&all)),
        Roll::Number(total) => protocol::Roll::Number(total),
    })
}

fn shown(members: &[Arc<Member>]) -> Vec<protocol::Present> {
    members.iter().map(|it| (&**it).into()).collect()
}
