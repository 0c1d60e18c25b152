//! What things are called in Redis. A channel's keys and its topic stand on one slot, by the hash tag around its name,
//! which can hold no brace.

use crate::channel::ChannelName;

/// The keys of one installation.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

/// The keys of one channel.
pub(super) struct Keys {
    /// A hash: epoch, seq and id of the last publication. Also the topic's name.
    pub(super) numbering: String,
    /// A stream of what is kept.
    pub(super) stream: String,
    /// Two hashes that take turns: ids that were taken.
    pub(super) ids: String,
    pub(super) older_ids: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}:") }
    }

    pub(super) fn of(&self, channel: &ChannelName) -> Keys {
        let numbering = self.topic(channel);
        Keys {
            stream: format!("{numbering}:log"),
            ids: format!("{numbering}:ids"),
            older_ids: format!("{numbering}:ids:older"),
            numbering,
        }
    }

    pub(super) fn topic(&self, channel: &ChannelName) -> String {
        format!("{}{{{channel}}}", self.prefix)
    }

    /// The channel whose topic, or whose numbering, this is.
    pub(super) fn channel_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix.as_str())?.strip_prefix('{')?.strip_suffix('}')
    }

    /// Matches the numbering of channels whose names start like this.
    pub(super) fn pattern(&self, prefix: &str) -> String {
        let mut pattern = String::new();
        for letter in format!("{}{{{prefix}", self.prefix).chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern + "*}"
    }

    /// A channel's members: connections, users, counts, infos.
    pub(super) fn roll(&self, channel: &ChannelName) -> [String; 4] {
        let topic = self.topic(channel);
        ["connections", "users", "counts", "infos"].map(|it| format!("{topic}:{it}"))
    }

    /// The channels a node has members in.
    pub(super) fn node(&self, node: &str) -> String {
        format!("{}node:{{{node}}}", self.prefix)
    }

    /// Until when each node lives.
    pub(super) fn leases(&self, tag: &str) -> String {
        format!("{}leases:{{{tag}}}", self.prefix)
    }

    /// Where a node's canary flies, on the slot of `tag`.
    pub(super) fn canary(&self, tag: &str, node: &str) -> String {
        format!("{}canary:{{{tag}}}:{node}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_found_by_its_topic_and_by_nothing_else() {
        let names = Names::new("app");
        let channel = ChannelName::parse("room.[5]?").unwrap();
        let keys = names.of(&channel);
        assert_eq!(keys.numbering, "app:{room.[5]?}");
        assert_eq!(names.channel_of(&keys.numbering), Some("room.[5]?"));
        for other in [&keys.stream, &keys.ids, "app:canary:{1}:x", "other:{room}"] {
            assert_eq!(names.channel_of(other), None, "{other}");
        }
        assert_eq!(names.pattern("room.[5]"), "app:{room.\\[5\\]*}");
    }
}
