//! Encrypted files: every key size and mode, and what is said when something does not fit.
#![allow(clippy::print_stdout, reason = "tests say when the files are absent")]

use std::fs;
use std::path::{Path, PathBuf};

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::consts::{U12, U16};
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{AeadInOut, Nonce};
use aes_gcm::{AesGcm, KeyInit};
use mslite_mindir::{Bytes, Key, Mode, Model, OpenOptions, Result};
use sm4::Sm4;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const IV: [u8; 16] = [7; 16];

fn corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/format");
    if !folder.exists() {
        println!("{} is not there: nothing is tested", folder.display());
        return None;
    }
    Some(folder)
}

fn key(size: usize) -> OpenOptions {
    OpenOptions::new().key(Key::new(&KEY[..size]))
}

fn record(magic: u8, tag: &[u8], cipher: &[u8]) -> Vec<u8> {
    let mut record = vec![magic, 0x5e, 0x3a, 0x7f];
    record.extend(tag);
    record.extend((24 + cipher.len() as u32).to_le_bytes());
    record.extend(16u32.to_le_bytes());
    record.extend(IV);
    record.extend((cipher.len() as u32).to_le_bytes());
    record.extend(cipher);
    record
}

fn gcm<C: KeyInit + AeadInOut>(key: &[u8], nonce: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut data = plain.to_vec();
    let cipher = C::new_from_slice(key).unwrap();
    let nonce = Nonce::<C>::try_from(nonce).unwrap();
    let tag = cipher.encrypt_inout_detached(&nonce, b"", data.as_mut_slice().into()).unwrap();
    record(0xd8, &tag, &data)
}

fn cbc<C: KeyIvInit + BlockModeEncrypt>(magic: u8, key: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut data = plain.to_vec();
    data.resize(plain.len() + 16, 0);
    let cipher = C::new_from_slices(key, &IV).unwrap();
    let data = cipher.encrypt_padded::<Pkcs7>(&mut data, plain.len()).unwrap();
    record(magic, &[], data)
}

fn read(bytes: Vec<u8>, options: &OpenOptions) -> Result<Model> {
    Model::from_bytes(Bytes::from(bytes), "m.mindir", options)
}

#[test]
fn every_mode_and_key_size_decrypts_also_from_several_records() {
    let Some(corpus) = corpus() else { return };
    let plain = fs::read(corpus.join("misc/jit_function.mindir")).unwrap();
    let (head, tail) = plain.split_at(200);
    type Encrypt = fn(&[u8], &[u8]) -> Vec<u8>;
    let cases: [(Mode, usize, Encrypt); 8] = [
        (Mode::AesGcm, 16, |key, plain| gcm::<AesGcm<Aes128, U12>>(key, &IV[..12], plain)),
        (Mode::AesGcm, 24, |key, plain| gcm::<AesGcm<Aes192, U12>>(key, &IV[..12], plain)),
        (Mode::AesGcm, 32, |key, plain| gcm::<AesGcm<Aes256, U12>>(key, &IV[..12], plain)),
        (Mode::AesGcm, 16, |key, plain| gcm::<AesGcm<Aes128, U16>>(key, &IV, plain)),
        (Mode::AesCbc, 16, |key, plain| cbc::<cbc::Encryptor<Aes128>>(0xd9, key, plain)),
        (Mode::AesCbc, 24, |key, plain| cbc::<cbc::Encryptor<Aes192>>(0xd9, key, plain)),
        (Mode::AesCbc, 32, |key, plain| cbc::<cbc::Encryptor<Aes256>>(0xd9, key, plain)),
        (Mode::Sm4Cbc, 16, |key, plain| cbc::<cbc::Encryptor<Sm4>>(0xda, key, plain)),
    ];
    for (mode, size, encrypt) in cases {
        let bytes = [encrypt(&KEY[..size], head), encrypt(&KEY[..size], tail)].concat();
        let model = read(bytes.clone(), &key(size).mode(mode)).unwrap();
        assert_eq!((model.encryption, model.graph.nodes.len()), (Some(mode), 3));
        let wrong = OpenOptions::new().key(Key::new(vec![9; size]));
        let message = read(bytes, &wrong).unwrap_err().to_string();
        assert!(message.contains(&format!("({mode})")) || message.contains("may be wrong"), "{message}");
    }
}

#[test]
fn mistakes_with_keys_and_modes_are_named() {
    let Some(corpus) = corpus() else { return };
    let gcm = corpus.join("by_version/mlp_2.10.0_gcm.mindir");
    let sm4 = corpus.join("enc/sm4_cbc_16.mindir");
    let plain = corpus.join("by_version/mlp_2.10.0.mindir");
    let split = corpus.join("split/enc_aes_gcm_graph.mindir");
    for (path, options, expected) in [
        (&gcm, OpenOptions::new(), "the file is encrypted (AES-GCM): give the key"),
        (&sm4, OpenOptions::new(), "the file is encrypted (SM4-CBC): give the key"),
        (&split, OpenOptions::new(), "the file is encrypted (AES-GCM): give the key"),
        (&gcm, key(16).mode(Mode::AesCbc), "the file is encrypted with AES-GCM, not with AES-CBC"),
        (&sm4, key(24), "SM4-CBC takes a key of 16 bytes, but the given one has 24"),
        (&gcm, key(5), "AES-GCM takes a key of 16, 24 or 32 bytes, but the given one has 5"),
        (&gcm, key(32), "cannot decrypt (AES-GCM) the record at byte 0: wrong key"),
        (&plain, key(16), "a key was given, but the file is not encrypted"),
    ] {
        let message = Model::open(path, &options).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(format!("{:?}", Key::new(KEY)), "Key(32 bytes)");
    assert_eq!("aes_cbc".parse(), Ok(Mode::AesCbc));
}

#[test]
fn changed_records_are_refused() {
    let Some(corpus) = corpus() else { return };
    let bytes = fs::read(corpus.join("by_version/mlp_2.10.0_gcm.mindir")).unwrap();
    for at in [4, 20, 24, 28, 44, 48, 60, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        // The last four bytes of the stored vector (offset 40 on) are not part of the nonce.
        assert!(read(changed, &key(16)).is_err(), "byte {at}");
    }
    for size in 4..bytes.len().min(200) {
        assert!(read(bytes[..size].to_vec(), &key(16)).is_err(), "{size} bytes");
    }
}
