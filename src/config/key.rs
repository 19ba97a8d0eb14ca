//! What is known about each key, and the macro that writes it down once.
//!
//! A table of keys is written like a struct: one field for each key, with its type, its default and
//! its documentation. From that one place come the struct the daemon reads, the parsing and
//! checking of files, flags and environment, and what `crio config` prints.

use super::value::Fallback;
use super::value::Shape;

/// Whether a key does anything in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what its documentation says.
    Now,
    /// It is read and checked, and what it asks for is not built yet.
    Later,
    /// It will never do anything; the text says what to use, or why not.
    Never(&'static str),
}

/// The name of a flag or environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Made from the key by the usual rule.
    Usual,
    /// An exception.
    Is(&'static str),
    /// There is none.
    None,
}

/// What a key's row says beside its type and default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Whether it does anything.
    pub effect: Effect,
    /// Its flag; usually the key with `-` for `_`.
    pub flag: Name,
    /// Its environment variable; usually `CONTAINER_` and the flag.
    pub variable: Name,
    /// A second name of the flag, of one letter or more.
    pub alias: Option<&'static str>,
    /// Whether `--help` leaves it out.
    pub hidden: bool,
    /// Whether SIGHUP gives it effect while the daemon runs.
    pub reloads: bool,
}

/// A row for a key that does what it says.
pub const NOW: Row = Row {
    effect: Effect::Now,
    flag: Name::Usual,
    variable: Name::Usual,
    alias: None,
    hidden: false,
    reloads: false,
};

/// A row for a key that does what it says, and is read again on SIGHUP: what is begun from then on
/// follows it.
pub const LIVE: Row = Row { reloads: true, ..NOW };

/// A row for a key that is known and not built yet.
pub const LATER: Row = Row { effect: Effect::Later, ..NOW };

/// A row for a key that will never do anything.
#[must_use]
pub const fn never(why: &'static str) -> Row {
    Row { effect: Effect::Never(why), ..NOW }
}

/// A row for a key of a table with a free name, which has neither flag nor variable. Such a table is
/// read again as a whole.
pub const INNER: Row = Row { flag: Name::None, variable: Name::None, ..LIVE };

/// Like [`INNER`], for what is not built yet.
pub const INNER_LATER: Row = Row { effect: Effect::Later, reloads: false, ..INNER };

impl Row {
    /// With this flag.
    #[must_use]
    pub const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Name::Is(flag);
        self
    }

    /// With this environment variable.
    #[must_use]
    pub const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = Name::Is(variable);
        self
    }

    /// Without an environment variable.
    #[must_use]
    pub const fn no_variable(mut self) -> Self {
        self.variable = Name::None;
        self
    }

    /// Without a flag, so for files only.
    #[must_use]
    pub const fn no_flag(mut self) -> Self {
        self.flag = Name::None;
        self.variable = Name::None;
        self
    }

    /// With a second name for the flag.
    #[must_use]
    pub const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Left out of `--help`.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

/// Everything known about one key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in; `*` stands for a free name.
    pub table: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// How a flag's text is read.
    pub shape: Shape,
    /// What a value must be, in words.
    pub wanted: &'static str,
    /// What it is when nobody sets it.
    pub fallback: Fallback,
    /// What it is for: sentences, each beginning with a blank.
    pub doc: &'static str,
    /// The rest.
    pub row: Row,
}

impl Key {
    /// What it is for, and whether SIGHUP is enough to change it.
    #[must_use]
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.doc.split_whitespace().collect();
        let reloads = if self.row.reloads { " SIGHUP reloads it." } else { "" };
        format!("{}{reloads}", words.join(" "))
    }

    /// The whole name, as `crio.api.listen`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// The flag's name without the dashes.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        match self.row.flag {
            Name::Usual => Some(self.name.replace('_', "-")),
            Name::Is(name) => Some(name.to_owned()),
            Name::None => None,
        }
    }

    /// The environment variable's name.
    #[must_use]
    pub fn variable(&self) -> Option<String> {
        match self.row.variable {
            Name::Usual => self
                .flag()
                .map(|flag| format!("CONTAINER_{}", flag.replace('-', "_").to_uppercase())),
            Name::Is(name) => Some(name.to_owned()),
            Name::None => None,
        }
    }
}

/// Writes a struct of settings and the [`Key`] of each field.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $struct:ident = $table:literal {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $fallback:expr, $row:expr; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $struct {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        impl $struct {
            /// The name of the table; `*` stands for a free name.
            pub const TABLE: &'static str = $table;

            /// The keys, in the order they are printed in.
            pub const KEYS: &'static [$crate::config::key::Key] = &[
                $( $crate::config::key::Key {
                    table: $table,
                    name: stringify!($field),
                    shape: <$type as $crate::config::setting::Setting>::SHAPE,
                    wanted: <$type as $crate::config::setting::Setting>::WANTED,
                    fallback: $fallback,
                    doc: concat!($($doc),+),
                    row: $row,
                }, )*
            ];

            /// The settings of the table `at`, checked one by one.
            pub(in $crate::config) fn read(
                values: &$crate::config::layers::Values,
                at: &str,
            ) -> Result<Self, $crate::config::error::ConfigError> {
                Ok(Self {
                    $( $field: values.read::<$type>(at, stringify!($field), $fallback)?, )*
                })
            }
        }
    };
}
pub(super) use table;
