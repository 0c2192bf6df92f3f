//! The six-digit numbers among the thousand most common passwords. Nothing that a rule refuses needs to be here, and
//! some of it is.
//!
//! Source: `10-million-password-list-top-1000.txt` of the collection `SecLists` (Daniel Miessler and others, MIT
//! licence), made of ten million leaked passwords that Mark Burnett put into the public domain in 2015. Taken from it:
//! every entry of exactly six digits, in its order, the most common first.

/// The list, the most common first.
pub(super) const COMMON: [&str; 46] = [
    "123456", "111111", "123123", "696969", "666666", "123321", "654321", "121212", "000000", "112233", "555555",
    "131313", "777777", "159753", "222222", "123654", "987654", "999999", "333333", "232323", "888888", "159357",
    "789456", "101010", "444444", "212121", "102030", "252525", "315475", "007007", "111222", "147147", "147258",
    "010203", "147852", "420420", "242424", "123789", "098765", "141414", "202020", "852456", "159951", "134679",
    "151515", "456789",
];
