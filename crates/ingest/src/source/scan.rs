//! Finding separators, line ends and quotes 64 bytes at a time.
//!
//! Only byte positions live here; what a position means is decided by `csv`. The loops are written
//! so that the compiler makes vector instructions of them: no unsafe code, any machine.

/// Three bytes searched for together; repeat one to search for fewer.
#[derive(Clone, Copy)]
pub(super) struct Needles(pub(super) u8, pub(super) u8, pub(super) u8);

/// Bit `i` of the answer is set when byte `i` of `window` is one of the needles. A window shorter
/// than 64 bytes leaves the upper bits clear.
#[inline(always)]
pub(super) fn mask64(window: &[u8], needles: Needles) -> u64 {
    match window.first_chunk::<64>() {
        Some(full) => full_mask(full, needles),
        None => plain_mask(window, needles),
    }
}

fn plain_mask(window: &[u8], Needles(a, b, c): Needles) -> u64 {
    let mut mask = 0u64;
    for (i, byte) in window.iter().enumerate() {
        mask |= u64::from(*byte == a || *byte == b || *byte == c) << i;
    }
    mask
}

#[inline(always)]
fn full_mask(window: &[u8; 64], Needles(a, b, c): Needles) -> u64 {
    let mut found = [0u8; 64];
    for (found, byte) in found.iter_mut().zip(window) {
        *found = u8::from(*byte == a) | u8::from(*byte == b) | u8::from(*byte == c);
    }
    let (lanes, _) = found.as_chunks::<8>();
    let mut mask = 0u64;
    for (i, lane) in lanes.iter().enumerate() {
        // The product moves the eight bytes, each 0 or 1, side by side into the top byte: byte k
        // meets the factor's bit 56 - 7k. No two terms of the sum fall on one bit.
        mask |= (u64::from_le_bytes(*lane).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_whatever_the_length() {
        let needles = Needles(b';', b'\n', b'"');
        for length in 0..=64usize {
            for place in 0..length {
                for needle in [b';', b'\n', b'"'] {
                    let mut window = vec![b'x'; length];
                    window[place] = needle;
                    assert_eq!(mask64(&window, needles), 1 << place, "{length} {place}");
                }
            }
        }
    }

    #[test]
    fn the_fast_mask_equals_the_plain_one() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..2_000 {
            let window: [u8; 64] = std::array::from_fn(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                b";\n\"ab\xff\x80\0"[(state >> 61) as usize]
            });
            let needles = Needles(b';', b'\n', 0xff);
            assert_eq!(mask64(&window, needles), plain_mask(&window, needles));
        }
    }
}
