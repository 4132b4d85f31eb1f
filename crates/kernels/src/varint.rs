//! Whole numbers in as few bytes as they need: seven bits a byte, lowest first, the high bit set
//! where more follow (LEB128). Negative numbers are folded between the others (0, −1, 1, −2, …).
//! States of kernels are written with it; a number has one shortest form, and only that is written.

/// Writes a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes the number at the front off; `None` when the bytes end in the middle or it is too large.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u128> {
    // Nine bytes hold 63 bits, which nearly every number fits in.
    let mut low = 0u64;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        low |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(u128::from(low));
        }
    }
    let mut number = u128::from(low);
    for place in 9..19 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u128::from(byte & 0x7f);
        let shifted = part << (7 * place);
        if shifted >> (7 * place) != part {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// As [`put`], of a number that is nearly always small: sets are written with it.
pub(crate) fn put_small(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Numbers as they are written, eight bytes of them at most, the first lowest. How many bytes a number
/// takes is found without a branch, and all are written at once: quicker than [`put_small`] for several
/// numbers of any size, slower for one that nearly always takes one byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    bytes: u64,
    length: u32,
}

impl Written {
    /// A number of four bytes at most.
    #[inline]
    pub(crate) fn of(number: u32) -> Option<Self> {
        if number >> 28 != 0 {
            return None;
        }
        let length = (38 - (number | 1).leading_zeros()) / 7;
        let part = |place: u32| (number & 0x7f << (7 * place)) << place;
        let parts = part(0) | part(1) | part(2) | part(3);
        let more = 0x0080_8080 & ((1u32 << (8 * (length - 1))) - 1);
        Some(Self {
            bytes: u64::from(parts | more),
            length,
        })
    }

    /// With another number of four bytes at most behind one.
    #[inline]
    pub(crate) fn then(self, next: Self) -> Self {
        Self {
            bytes: self.bytes | next.bytes << (8 * self.length),
            length: self.length + next.length,
        }
    }

    /// The bytes, and zeros behind them.
    #[inline]
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.bytes.to_le_bytes()
    }

    /// How many bytes are written.
    #[inline]
    pub(crate) fn length(self) -> u8 {
        self.length as u8
    }
}

/// As [`take`], of a number of 32 bits at most. Members of sets are counted with it, so it must be small
/// enough to become part of the loop that counts.
pub(crate) fn take_small(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for place in 0..5 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

/// Writes a number that may be negative.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i128) {
    put(out, ((number << 1) ^ (number >> 127)) as u128);
}

/// Takes a number that may be negative off the front.
pub(crate) fn take_signed(bytes: &mut &[u8]) -> Option<i128> {
    take(bytes).map(|folded| ((folded >> 1) as i128) ^ -((folded & 1) as i128))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: i128, length: usize) {
        let mut bytes = Vec::new();
        put_signed(&mut bytes, number);
        assert_eq!(bytes.len(), length, "{number}");
        let mut rest = bytes.as_slice();
        assert_eq!(take_signed(&mut rest), Some(number));
        assert!(rest.is_empty());
        assert_eq!(take_signed(&mut &bytes[..length - 1]), None);
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        check(0, 1);
        check(-1, 1);
        check(63, 1);
        check(64, 2);
        check(-64, 1);
        check(i128::from(i64::MAX), 10);
        check(i128::MAX, 19);
        check(i128::MIN, 19);
    }

    #[test]
    fn small_numbers_are_written_and_taken_as_the_others_are() {
        let bounds = [
            0,
            0x7f,
            0x80,
            0x3fff,
            0x4000,
            0x1f_ffff,
            0x20_0000,
            0x0fff_ffff,
            0x1000_0000,
            u32::MAX,
        ];
        for number in bounds.into_iter().flat_map(|of| [of, of / 2, of / 3]) {
            let (mut small, mut any) = (vec![7], vec![7]);
            put_small(&mut small, number);
            put(&mut any, u128::from(number));
            assert_eq!(small, any, "{number}");
            if number < 1 << 28 {
                let written = Written::of(number).unwrap();
                assert_eq!(written.length as usize, any.len() - 1, "{number}");
                for first in [0, 0x7f, 0x80, (1 << 28) - 1] {
                    let mut both: Vec<u8> = vec![];
                    let all = Written::of(first).unwrap().then(written);
                    both.extend(all.bytes().iter().take(all.length().into()));
                    let mut known = vec![];
                    put(&mut known, u128::from(first));
                    put(&mut known, u128::from(number));
                    assert_eq!(both, known, "{first} {number}");
                }
            } else {
                assert_eq!(Written::of(number), None);
            }
            for length in 1..small.len() {
                assert_eq!(take_small(&mut &small[1..length]), None, "{number}");
            }
            small.push(0x85);
            let mut rest = &small[1..];
            assert_eq!(take_small(&mut rest), Some(number));
            assert_eq!(rest, [0x85]);
        }
        let mut beyond = Vec::new();
        put(&mut beyond, 1 << 32);
        assert_eq!(take_small(&mut beyond.as_slice()), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 19], &[0xff; 30]] {
            assert_eq!(take(&mut &*bytes), None);
        }
        let mut largest = [0xff; 19];
        largest[18] = 0x03;
        assert_eq!(take(&mut largest.as_slice()), Some(u128::MAX));
        largest[18] = 0x04;
        assert_eq!(take(&mut largest.as_slice()), None);
    }
}
