//! The encryption container: records of at most 64 MiB, each with a magic number, an initialisation vector and,
//! for AES-GCM, a tag.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use bytes::Bytes;

use crate::{Error, Result, cipher, file};

/// Plain bytes in a record, at most.
pub(crate) const RECORD_SIZE: usize = 64 << 20;
const IV_SIZE: usize = 16;

/// How a file is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// AES in Galois/counter mode: authenticated.
    AesGcm,
    /// AES in cipher block chaining mode: a changed file may go unnoticed.
    AesCbc,
    /// SM4 in cipher block chaining mode: a changed file may go unnoticed.
    Sm4Cbc,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 3] = [Mode::AesGcm, Mode::AesCbc, Mode::Sm4Cbc];

    /// The mode whose magic number the bytes start with, if they do.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        Mode::ALL.into_iter().find(|mode| bytes.starts_with(&mode.magic()))
    }

    /// Name as MindSpore spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::AesGcm => "AES-GCM",
            Mode::AesCbc => "AES-CBC",
            Mode::Sm4Cbc => "SM4-CBC",
        }
    }

    pub(crate) const fn key_sizes(self) -> &'static str {
        match self {
            Mode::AesGcm | Mode::AesCbc => "16, 24 or 32",
            Mode::Sm4Cbc => "16",
        }
    }

    const fn takes_key_of(self, size: usize) -> bool {
        matches!((self, size), (_, 16) | (Mode::AesGcm | Mode::AesCbc, 24 | 32))
    }

    const fn magic(self) -> [u8; 4] {
        let first = match self {
            Mode::AesGcm => 0xd8,
            Mode::AesCbc => 0xd9,
            Mode::Sm4Cbc => 0xda,
        };
        [first, 0x5e, 0x3a, 0x7f]
    }

    const fn tag_size(self) -> usize {
        if matches!(self, Mode::AesGcm) { 16 } else { 0 }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    /// Reads `AES-GCM`, `aes_gcm` and the like.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_uppercase().replace('_', "-");
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("{text:?} is not AES-GCM, AES-CBC or SM4-CBC"))
    }
}

/// A key; its bytes are not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key from its bytes: 16, 24 or 32 for AES, 16 for SM4.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Key(bytes.into())
    }

    /// Fails when the mode takes no key of this size.
    pub(crate) fn check(&self, mode: Mode, path: &Path) -> Result<()> {
        match mode.takes_key_of(self.0.len()) {
            true => Ok(()),
            false => Err(Error::KeySize { file: path.to_owned(), mode, size: self.0.len() }),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Decrypts a whole file, several records at a time: their contents, one after the other.
pub(crate) fn decrypt(path: &Path, bytes: &[u8], mode: Mode, key: &Key) -> Result<Bytes> {
    key.check(mode, path)?;
    let key = &*key.0;
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = (bytes.len() - rest.len()) as u64;
        let record = Record::read(&mut rest, mode, key, offset);
        records.push(record.map_err(|reason| refused(path, mode, offset, reason))?);
    }
    let size = records.iter().map(|record| record.size).sum();
    let fail = |source| Error::Io { file: path.to_owned(), action: "decrypt", source };
    let mut plain = file::allocate(size).map_err(fail)?;
    match decrypt_all(&records, &mut plain[..size], mode, key) {
        None => Ok(Bytes::from_owner(plain).slice(..size)),
        Some(offset) => Err(refused(path, mode, offset, WRONG_KEY)),
    }
}

/// Encrypts the contents of a record.
pub(crate) fn encrypt(plain: &[u8], mode: Mode, key: &Key) -> io::Result<Vec<u8>> {
    let mut iv = [0; IV_SIZE];
    getrandom::fill(&mut iv)?;
    let (tag, cipher) =
        cipher::encrypt(plain, &iv, mode, &key.0).ok_or_else(|| io::Error::other("cannot encrypt"))?;
    let number = |n: usize| (n as u32).to_le_bytes();
    let mut record = Vec::with_capacity(cipher.len() + 48);
    record.extend(mode.magic());
    record.extend(tag);
    record.extend(number(8 + IV_SIZE + cipher.len()));
    record.extend(number(IV_SIZE));
    record.extend(iv);
    record.extend(number(cipher.len()));
    record.extend(cipher);
    Ok(record)
}

const WRONG_KEY: &str = "wrong key, or the file was changed";

fn refused(path: &Path, mode: Mode, offset: u64, reason: &str) -> Error {
    Error::Decrypt { file: path.to_owned(), mode, offset, reason: reason.into() }
}

/// Decrypts records into `plain`, which has just their size; the offset of the first that fails, if one does.
fn decrypt_all(records: &[Record<'_>], plain: &mut [u8], mode: Mode, key: &[u8]) -> Option<u64> {
    let mut rest = plain;
    let jobs = records.iter().map(|record| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(record.size);
        rest = tail;
        (record, part)
    });
    let jobs: Vec<_> = jobs.collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().ok()?.next();
    let work = || {
        let mut failed = None;
        while let Some((record, part)) = next() {
            if cipher::decrypt(record.cipher, record.iv, record.tag, mode, key, part).is_none() {
                failed = failed.or(Some(record.offset));
            }
        }
        failed
    };
    if threads < 2 {
        return work();
    }
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).min()
    })
}

struct Record<'a> {
    /// Where it starts in the file.
    offset: u64,
    tag: &'a [u8],
    iv: &'a [u8],
    cipher: &'a [u8],
    /// Plain bytes.
    size: usize,
}

impl<'a> Record<'a> {
    fn read(rest: &mut &'a [u8], mode: Mode, key: &[u8], offset: u64) -> Result<Self, &'static str> {
        const CUT: &str = "the record is cut off";
        if Mode::of_bytes(rest) != Some(mode) {
            return Err("the record does not start with the magic number of the first one");
        }
        take(rest, 4).ok_or(CUT)?;
        let tag = take(rest, mode.tag_size()).ok_or(CUT)?;
        let block_len = take_u32(rest).ok_or(CUT)?;
        let iv_len = take_u32(rest).ok_or(CUT)?;
        if iv_len != IV_SIZE {
            return Err("the initialisation vector does not have 16 bytes");
        }
        let iv = take(rest, iv_len).ok_or(CUT)?;
        let cipher_len = take_u32(rest).ok_or(CUT)?;
        if Some(block_len) != cipher_len.checked_add(8 + iv_len) {
            return Err("the lengths in the record's header contradict each other");
        }
        let cipher = take(rest, cipher_len).ok_or(CUT)?;
        let size = cipher::plain_size(cipher, iv, mode, key).ok_or(WRONG_KEY)?;
        Ok(Record { offset, tag, iv, cipher, size })
    }
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(head)
}

fn take_u32(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}
