//! What one landing may use: plain numbers with defaults, set by the caller.
//!
//! No file or environment is read here. To add a limit: a field with a default and a description,
//! and the place that enforces it names the field in its error's next step.

/// Bounds of one landing. Every bound that a file can break has its own error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandLimits {
    /// Bytes of decoded text that a worker takes at a time. Default 1 MiB: a block and the cells
    /// cut from it stay in a core's cache.
    pub block_bytes: usize,
    /// Worker threads that cut, check and pseudonymise. Default 2.
    pub workers: usize,
    /// Threads that encode Parquet. Default 2.
    pub encoders: usize,
    /// Blocks that may be in flight per worker before the reader waits. Default 3.
    pub blocks_per_worker: usize,
    /// Longest cell in bytes. Default 1 MiB.
    pub max_field_bytes: usize,
    /// Longest record in bytes. Default 16 MiB.
    pub max_record_bytes: usize,
    /// Most columns of a file. Default 1 000.
    pub max_columns: usize,
    /// Most bytes a compressed file may unpack to. Default 64 GiB.
    pub max_unpacked_bytes: u64,
    /// Unpacked bytes per packed byte allowed once `unpacked_grace_bytes` is passed. Default 200;
    /// real extracts pack 5 to 40 times.
    pub max_unpack_ratio: u64,
    /// Unpacked bytes before the ratio is looked at. Default 16 MiB.
    pub unpacked_grace_bytes: u64,
    /// Largest workbook (XLSX) in bytes; a workbook is read from memory. Default 64 MiB.
    pub max_workbook_bytes: u64,
    /// Most bytes the parts of a workbook may unpack to together. Default 512 MiB.
    pub max_workbook_unpacked_bytes: u64,
    /// Most unpacked bytes of one row group of a Parquet file. Default 1 GiB.
    pub max_row_group_bytes: u64,
    /// Keys of one delivery held in memory to find duplicates; further ones go to temporary files.
    /// Default 4 million.
    pub max_keys_in_memory: usize,
    /// Rejected rows listed in the receipt. All of them are in the reject table. Default 20.
    pub listed_rejects: usize,
    /// Most rejects kept for the reject table; a delivery with more is refused. Default 1 million.
    pub max_rejects: usize,
}

impl Default for LandLimits {
    fn default() -> Self {
        Self {
            block_bytes: 1 << 20,
            workers: 2,
            encoders: 2,
            blocks_per_worker: 3,
            max_field_bytes: 1 << 20,
            max_record_bytes: 16 << 20,
            max_columns: 1_000,
            max_unpacked_bytes: 64 << 30,
            max_unpack_ratio: 200,
            unpacked_grace_bytes: 16 << 20,
            max_workbook_bytes: 64 << 20,
            max_workbook_unpacked_bytes: 512 << 20,
            max_row_group_bytes: 1 << 30,
            max_keys_in_memory: 4_000_000,
            listed_rejects: 20,
            max_rejects: 1_000_000,
        }
    }
}
