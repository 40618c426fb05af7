//! The encryption container: records of at most 64 MiB, each with a magic number, an initialisation vector and,
//! for AES-GCM, a tag.

use std::fmt;
use std::path::Path;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::consts::{U12, U16};
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use aes_gcm::{AesGcm, KeyInit};
use sm4::Sm4;

use crate::{Error, Result};

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
    /// The mode whose magic number the bytes start with, if they do.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xd8, 0x5e, 0x3a, 0x7f, ..] => Some(Mode::AesGcm),
            [0xd9, 0x5e, 0x3a, 0x7f, ..] => Some(Mode::AesCbc),
            [0xda, 0x5e, 0x3a, 0x7f, ..] => Some(Mode::Sm4Cbc),
            _ => None,
        }
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
        [Mode::AesGcm, Mode::AesCbc, Mode::Sm4Cbc]
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
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Decrypts a whole file: the contents of its records, one after the other.
pub(crate) fn decrypt(file: &Path, bytes: &[u8], mode: Mode, key: &Key) -> Result<Vec<u8>> {
    if !mode.takes_key_of(key.0.len()) {
        return Err(Error::KeySize { file: file.to_owned(), mode, size: key.0.len() });
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = (bytes.len() - rest.len()) as u64;
        let fail =
            |reason: &str| Error::Decrypt { file: file.to_owned(), mode, offset, reason: reason.into() };
        let record = Record::read(&mut rest, mode).map_err(fail)?;
        record.append_to(&mut plain, mode, &key.0).map_err(fail)?;
    }
    Ok(plain)
}

struct Record<'a> {
    tag: &'a [u8],
    iv: &'a [u8],
    cipher: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(rest: &mut &'a [u8], mode: Mode) -> Result<Self, &'static str> {
        const CUT: &str = "the record is cut off";
        if Mode::of_bytes(rest) != Some(mode) {
            return Err("the record does not start with the magic number of the first one");
        }
        take(rest, 4).ok_or(CUT)?;
        let tag = take(rest, mode.tag_size()).ok_or(CUT)?;
        let block_len = take_u32(rest).ok_or(CUT)?;
        let iv_len = take_u32(rest).ok_or(CUT)?;
        if iv_len != 16 {
            return Err("the initialisation vector does not have 16 bytes");
        }
        let iv = take(rest, iv_len).ok_or(CUT)?;
        let cipher_len = take_u32(rest).ok_or(CUT)?;
        if Some(block_len) != cipher_len.checked_add(8 + iv_len) {
            return Err("the lengths in the record's header contradict each other");
        }
        Ok(Record { tag, iv, cipher: take(rest, cipher_len).ok_or(CUT)? })
    }

    fn append_to(&self, plain: &mut Vec<u8>, mode: Mode, key: &[u8]) -> Result<(), &'static str> {
        let start = plain.len();
        plain.extend_from_slice(self.cipher);
        let data = &mut plain[start..];
        let size = match mode {
            Mode::AesGcm => self.open_gcm(key, data),
            Mode::AesCbc => match key.len() {
                16 => open_cbc::<cbc::Decryptor<Aes128>>(key, self.iv, data),
                24 => open_cbc::<cbc::Decryptor<Aes192>>(key, self.iv, data),
                _ => open_cbc::<cbc::Decryptor<Aes256>>(key, self.iv, data),
            },
            Mode::Sm4Cbc => open_cbc::<cbc::Decryptor<Sm4>>(key, self.iv, data),
        };
        plain.truncate(start + size.ok_or("wrong key, or the file was changed")?);
        Ok(())
    }

    /// MindSpore uses the first 12 of the 16 bytes as the nonce; by the book it would be all 16.
    fn open_gcm(&self, key: &[u8], data: &mut [u8]) -> Option<usize> {
        let short = &self.iv[..12];
        match key.len() {
            16 => open_gcm::<AesGcm<Aes128, U12>>(key, short, self.tag, data)
                .or_else(|| open_gcm::<AesGcm<Aes128, U16>>(key, self.iv, self.tag, data)),
            24 => open_gcm::<AesGcm<Aes192, U12>>(key, short, self.tag, data)
                .or_else(|| open_gcm::<AesGcm<Aes192, U16>>(key, self.iv, self.tag, data)),
            _ => open_gcm::<AesGcm<Aes256, U12>>(key, short, self.tag, data)
                .or_else(|| open_gcm::<AesGcm<Aes256, U16>>(key, self.iv, self.tag, data)),
        }
    }
}

/// Decrypts in place; leaves the data alone when the tag does not fit.
fn open_gcm<C: KeyInit + AeadInOut>(key: &[u8], nonce: &[u8], tag: &[u8], data: &mut [u8]) -> Option<usize> {
    let cipher = C::new_from_slice(key).ok()?;
    let nonce = Nonce::<C>::try_from(nonce).ok()?;
    let tag = Tag::<C>::try_from(tag).ok()?;
    let size = data.len();
    cipher.decrypt_inout_detached(&nonce, b"", data.into(), &tag).ok()?;
    Some(size)
}

/// Decrypts in place, and returns the size without padding.
fn open_cbc<C: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<usize> {
    let cipher = C::new_from_slices(key, iv).ok()?;
    Some(cipher.decrypt_padded::<Pkcs7>(data).ok()?.len())
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
