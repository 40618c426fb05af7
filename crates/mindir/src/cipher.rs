//! The ciphers of the encryption container, on the contents of one record. `None` means: this does not fit.

use aes::cipher::block_padding::{NoPadding, Pkcs7};
use aes::cipher::consts::{U12, U16};
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use aes_gcm::{AesGcm, KeyInit};
use ring::aead;
use sm4::Sm4;

use crate::Mode;

const BLOCK: usize = 16;
/// MindSpore uses the first 12 of the 16 bytes as the nonce; by the book it would be all 16.
const NONCE: usize = 12;

/// Bytes of the plain text.
pub(crate) fn plain_size(cipher: &[u8], iv: &[u8], mode: Mode, key: &[u8]) -> Option<usize> {
    match mode {
        Mode::AesGcm => Some(cipher.len()),
        Mode::AesCbc | Mode::Sm4Cbc => {
            let (last, rest) = last_block(cipher, iv, mode, key)?;
            Some(rest.len() + last.len())
        }
    }
}

/// Decrypts into `plain`, which has [`plain_size`] bytes.
pub(crate) fn decrypt(
    cipher: &[u8],
    iv: &[u8],
    tag: &[u8],
    mode: Mode,
    key: &[u8],
    plain: &mut [u8],
) -> Option<()> {
    if mode == Mode::AesGcm {
        plain.copy_from_slice(cipher);
        return open_short(key, iv, tag, plain).or_else(|| {
            plain.copy_from_slice(cipher);
            open_long(key, iv, tag, plain)
        });
    }
    let (last, rest) = last_block(cipher, iv, mode, key)?;
    let (head, tail) = plain.split_at_mut_checked(rest.len())?;
    head.copy_from_slice(rest);
    tail.copy_from_slice(&last);
    match (mode, key.len()) {
        (Mode::Sm4Cbc, _) => open_blocks::<cbc::Decryptor<Sm4>>(key, iv, head),
        (_, 16) => open_blocks::<cbc::Decryptor<Aes128>>(key, iv, head),
        (_, 24) => open_blocks::<cbc::Decryptor<Aes192>>(key, iv, head),
        _ => open_blocks::<cbc::Decryptor<Aes256>>(key, iv, head),
    }
}

/// Encrypts; the tag is empty except in AES-GCM.
pub(crate) fn encrypt(plain: &[u8], iv: &[u8], mode: Mode, key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut data = plain.to_vec();
    if mode == Mode::AesGcm {
        let tag = seal(key, iv, &mut data)?;
        return Some((tag, data));
    }
    data.resize((plain.len() / BLOCK + 1) * BLOCK, 0);
    match (mode, key.len()) {
        (Mode::Sm4Cbc, _) => seal_blocks::<cbc::Encryptor<Sm4>>(key, iv, &mut data, plain.len()),
        (_, 16) => seal_blocks::<cbc::Encryptor<Aes128>>(key, iv, &mut data, plain.len()),
        (_, 24) => seal_blocks::<cbc::Encryptor<Aes192>>(key, iv, &mut data, plain.len()),
        _ => seal_blocks::<cbc::Encryptor<Aes256>>(key, iv, &mut data, plain.len()),
    }?;
    Some((Vec::new(), data))
}

/// The plain text of the last block without its padding, and the blocks before it.
fn last_block<'a>(cipher: &'a [u8], iv: &'a [u8], mode: Mode, key: &[u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let (rest, last) = cipher.split_at_checked(cipher.len().checked_sub(BLOCK)?)?;
    let iv = rest.last_chunk::<BLOCK>().map_or(iv, |block| block);
    let last = match (mode, key.len()) {
        (Mode::Sm4Cbc, _) => open_last::<cbc::Decryptor<Sm4>>(key, iv, last),
        (_, 16) => open_last::<cbc::Decryptor<Aes128>>(key, iv, last),
        (_, 24) => open_last::<cbc::Decryptor<Aes192>>(key, iv, last),
        _ => open_last::<cbc::Decryptor<Aes256>>(key, iv, last),
    };
    Some((last?, rest)).filter(|_| cipher.len().is_multiple_of(BLOCK))
}

fn open_last<C: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], block: &[u8]) -> Option<Vec<u8>> {
    let mut block = block.to_vec();
    let size = C::new_from_slices(key, iv).ok()?.decrypt_padded::<Pkcs7>(&mut block).ok()?.len();
    block.truncate(size);
    Some(block)
}

fn open_blocks<C: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<()> {
    C::new_from_slices(key, iv).ok()?.decrypt_padded::<NoPadding>(data).ok().map(drop)
}

fn seal_blocks<C: KeyIvInit + BlockModeEncrypt>(
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
    size: usize,
) -> Option<()> {
    C::new_from_slices(key, iv).ok()?.encrypt_padded::<Pkcs7>(data, size).ok().map(drop)
}

/// Decrypts with the usual nonce.
fn open_short(key: &[u8], iv: &[u8], tag: &[u8], data: &mut [u8]) -> Option<()> {
    let Some(fast) = fast(key) else {
        return open::<AesGcm<Aes192, U12>>(key, iv.get(..NONCE)?, tag, data);
    };
    let nonce = aead::Nonce::try_assume_unique_for_key(iv.get(..NONCE)?).ok()?;
    let tag = aead::Tag::try_from(tag).ok()?;
    fast.open_in_place_separate_tag(nonce, aead::Aad::empty(), tag, data, 0..).ok().map(drop)
}

/// Decrypts with all of the vector as the nonce.
fn open_long(key: &[u8], iv: &[u8], tag: &[u8], data: &mut [u8]) -> Option<()> {
    match key.len() {
        16 => open::<AesGcm<Aes128, U16>>(key, iv, tag, data),
        24 => open::<AesGcm<Aes192, U16>>(key, iv, tag, data),
        _ => open::<AesGcm<Aes256, U16>>(key, iv, tag, data),
    }
}

fn open<C: KeyInit + AeadInOut>(key: &[u8], nonce: &[u8], tag: &[u8], data: &mut [u8]) -> Option<()> {
    let cipher = C::new_from_slice(key).ok()?;
    let nonce = Nonce::<C>::try_from(nonce).ok()?;
    let tag = Tag::<C>::try_from(tag).ok()?;
    cipher.decrypt_inout_detached(&nonce, b"", data.into(), &tag).ok()
}

fn seal(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<Vec<u8>> {
    let iv = iv.get(..NONCE)?;
    let Some(fast) = fast(key) else {
        let nonce = Nonce::<AesGcm<Aes192, U12>>::try_from(iv).ok()?;
        let cipher = AesGcm::<Aes192, U12>::new_from_slice(key).ok()?;
        return Some(cipher.encrypt_inout_detached(&nonce, b"", data.into()).ok()?.to_vec());
    };
    let nonce = aead::Nonce::try_assume_unique_for_key(iv).ok()?;
    let tag = fast.seal_in_place_separate_tag(nonce, aead::Aad::empty(), data).ok()?;
    Some(tag.as_ref().to_vec())
}

/// The faster implementation, which has no keys of 24 bytes and no nonces of 16.
fn fast(key: &[u8]) -> Option<aead::LessSafeKey> {
    let algorithm = match key.len() {
        16 => &aead::AES_128_GCM,
        32 => &aead::AES_256_GCM,
        _ => return None,
    };
    aead::UnboundKey::new(algorithm, key).ok().map(aead::LessSafeKey::new)
}
