//! CRC-64 with the ISO 3309 polynomial, as tar-split keeps it with each file.
//!
//! It tells accidents, not attacks; those are told by the layer's digest. Eight bytes at a time,
//! with eight tables that the compiler makes.

const POLYNOMIAL: u64 = 0xD800_0000_0000_0000;

#[allow(clippy::indexing_slicing, reason = "every index is below 256 or 8 by construction")]
const TABLES: [[u64; 256]; 8] = {
    let mut tables = [[0_u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xFF) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
};

/// A checksum of the bytes seen so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc64(u64);

impl Crc64 {
    /// The checksum of nothing.
    pub(super) fn new() -> Self {
        Self(!0)
    }

    /// Takes in more bytes.
    #[allow(clippy::indexing_slicing, reason = "a byte is below 256")]
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let (blocks, rest) = bytes.as_chunks::<8>();
        for block in blocks {
            let mixed = (crc ^ u64::from_le_bytes(*block)).to_le_bytes();
            crc = TABLES[7][usize::from(mixed[0])]
                ^ TABLES[6][usize::from(mixed[1])]
                ^ TABLES[5][usize::from(mixed[2])]
                ^ TABLES[4][usize::from(mixed[3])]
                ^ TABLES[3][usize::from(mixed[4])]
                ^ TABLES[2][usize::from(mixed[5])]
                ^ TABLES[1][usize::from(mixed[6])]
                ^ TABLES[0][usize::from(mixed[7])];
        }
        for byte in rest {
            let [low, ..] = crc.to_le_bytes();
            crc = TABLES[0][usize::from(low ^ byte)] ^ (crc >> 8);
        }
        self.0 = crc;
    }

    /// The checksum as tar-split writes it.
    pub(super) fn finish(self) -> [u8; 8] {
        (!self.0).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        // CRC-64/GO-ISO, "123456789".
        let mut crc = Crc64::new();
        crc.update(b"1");
        crc.update(b"23456789");
        assert_eq!(crc.finish(), 0xB909_56C7_75A4_1001_u64.to_be_bytes());
    }

    #[test]
    fn whole_and_pieces_agree() {
        let bytes: Vec<u8> = (0..1000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let mut whole = Crc64::new();
        whole.update(&bytes);
        let mut pieces = Crc64::new();
        for piece in bytes.chunks(13) {
            pieces.update(piece);
        }
        assert_eq!(whole.finish(), pieces.finish());
    }
}
