//! Identifiers: 64 lower-case hex digits each, told apart by type and safe in a path.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::failure::Classify;
use crate::failure::Kind;

/// A text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id: 64 lower-case hex digits are wanted")]
pub struct IdError(pub String);

impl Classify for IdError {
    fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

fn checked(text: &str) -> Result<Box<str>, IdError> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(hex) {
        Ok(text.into())
    } else {
        Err(IdError(text.chars().take(128).collect()))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The hex digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, as tools show them.
            #[must_use]
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    };
}

id! {
    /// The id of a sandbox.
    SandboxId
}
id! {
    /// The id of a container.
    ContainerId
}
id! {
    /// The id of an image: the hex digits of its config's digest.
    ImageId
}
id! {
    /// The id of a layer in the store: the hex digits that its place in a stack gives it.
    LayerId
}

macro_rules! fresh {
    ($name:ident) => {
        impl $name {
            /// A new id that nothing else has.
            ///
            /// # Errors
            ///
            /// [`std::io::Error`] when the kernel gives no random bytes.
            pub fn fresh() -> std::io::Result<Self> {
                let mut bytes = [0_u8; 32];
                aws_lc_rs::rand::fill(&mut bytes)
                    .map_err(|_| std::io::Error::other("no random bytes from the kernel"))?;
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Self(hex.into()))
            }
        }
    };
}

impl SandboxId {
    /// The id of the container that is the pod's own process, where it has one: the same, as in
    /// CRI-O.
    #[must_use]
    pub fn of_infra(&self) -> ContainerId {
        ContainerId(self.0.clone())
    }
}

fresh!(SandboxId);
fresh!(ContainerId);
fresh!(LayerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_only() {
        assert!("../etc".parse::<ContainerId>().is_err());
        assert!("A".repeat(64).parse::<ContainerId>().is_err());
        let id = ContainerId::fresh().unwrap();
        assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
        assert_eq!(id.short().len(), 12);
    }
}
