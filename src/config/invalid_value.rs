//! The error of an option whose value is refused.

use std::borrow::Cow;

/// Says in one line what is wrong with the value of an option, and what to give instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(Cow<'static, str>);

impl From<&'static str> for InvalidValue {
    fn from(message: &'static str) -> Self {
        Self(message.into())
    }
}

impl From<String> for InvalidValue {
    fn from(message: String) -> Self {
        Self(message.into())
    }
}
