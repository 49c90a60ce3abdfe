//! The bits of ACL categories, by the position of their names in [`super::CATEGORIES`]; only those that commands of a
//! sentinel have.

macro_rules! bits {
    ($($name:ident = $at:literal),* $(,)?) => {
        $(pub(super) const $name: u32 = 1 << $at;)*
        #[cfg(test)]
        pub(super) const NAMED: &[(&str, u32)] = &[$((stringify!($name), $name)),*];
    };
}

bits! {
    PUBSUB = 12,
    ADMIN = 13,
    FAST = 14,
    SLOW = 15,
    DANGEROUS = 17,
    CONNECTION = 18,
}
