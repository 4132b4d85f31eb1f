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
    let mut number = 0u128;
    for place in 0..19 {
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

/// Writes a number of 32 bits.
pub(crate) fn put_short(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number of 32 bits off the front; `None` when the bytes end in the middle or it is too large.
pub(crate) fn take_short(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u32;
    for place in 0..5 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u32::from(byte & 0x7f);
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
    fn numbers_of_32_bits_are_written_as_any_others() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let (mut short, mut long) = (Vec::new(), Vec::new());
            put_short(&mut short, number);
            put(&mut long, u128::from(number));
            assert_eq!(short, long);
            let mut rest = short.as_slice();
            assert_eq!(take_short(&mut rest), Some(number));
            assert!(rest.is_empty());
            assert_eq!(take_short(&mut &short[..short.len() - 1]), None);
        }
        let mut beyond = Vec::new();
        put(&mut beyond, 1 << 32);
        assert_eq!(take_short(&mut beyond.as_slice()), None);
        assert_eq!(take_short(&mut [0x80u8; 9].as_slice()), None);
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
