//! Masking, RFC 6455 section 5.3.

/// Takes the mask off a part of a payload, in place. `offset` is where in the payload the part starts.
pub fn unmask(part: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, rest) = part.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_comes_off_in_parts_of_any_length() {
        let mask = *b"\x01\x20\x40\x80";
        let clear: Vec<u8> = (0..=255).collect();
        let masked: Vec<u8> = clear
            .iter()
            .zip(mask.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        for split in 0..=clear.len() {
            let mut got = masked.clone();
            let (left, right) = got.split_at_mut(split);
            unmask(left, mask, 0);
            unmask(right, mask, split as u64);
            assert_eq!(got, clear, "split at {split}");
        }
    }
}
