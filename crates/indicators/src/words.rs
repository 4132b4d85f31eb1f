//! Closed sets of words in definition files. One macro, so that the word in the file, the word in
//! the output and the list shown in a help line are the same.

/// Declares an enum whose variants are words of the definition format.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every word, in the order of declaration.
            $vis const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it stands in definitions and results.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl $crate::words::Word for $name {
            const ALL: &'static [$name] = $name::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

/// A closed set of words that a definition file may use.
pub(crate) trait Word: Copy + 'static {
    /// Every word of the set.
    const ALL: &'static [Self];
    /// The word as written.
    fn word(self) -> &'static str;

    /// The variant of a word.
    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|w| w.word() == text)
    }
}
