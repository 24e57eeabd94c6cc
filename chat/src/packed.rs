//! The compact form of frames: MessagePack, of the same shape as the JSON. Whoever speaks it says the same and hears the same.

use rmp_serde::decode::Error as DecodeError;
use serde::Deserialize;
use serde_json::Value;

use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("the frame is not MessagePack: {0}")]
    NotMessagePack(#[from] DecodeError),
    #[error("{left} bytes follow the frame")]
    MoreFollows { left: usize },
    #[error("the frame is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the frame cannot be packed: {0}")]
    Unpackable(#[from] rmp_serde::encode::Error),
}

/// A frame's JSON as MessagePack.
pub fn pack(json: &str) -> Result<Vec<u8>, PackError> {
    let value: Value = serde_json::from_str(json)?;
    Ok(rmp_serde::to_vec(&value)?)
}

/// A MessagePack frame as JSON. Byte strings and extensions have no meaning in a frame.
pub fn unpack(mut packed: &[u8]) -> Result<String, PackError> {
    let mut deserializer = rmp_serde::Deserializer::new(&mut packed);
    deserializer.set_max_depth(limits::FRAME_DEPTH);
    let value = Value::deserialize(&mut deserializer)?;
    match packed.len() {
        0 => Ok(value.to_string()),
        left => Err(PackError::MoreFollows { left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_frame_is_the_same_after_packing_and_smaller() {
        let dir = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/frames");
        let (mut json_bytes, mut packed_bytes) = (0, 0);
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let json = value.to_string();
            let packed = pack(&json).unwrap();
            (json_bytes, packed_bytes) = (json_bytes + json.len(), packed_bytes + packed.len());
            assert_eq!(unpack(&packed).unwrap(), json, "{}", path.display());
        }
        assert!(packed_bytes < json_bytes, "{packed_bytes} of {json_bytes}");
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(matches!(unpack(b"\xc1"), Err(PackError::NotMessagePack(_))));
        assert!(matches!(unpack(b""), Err(PackError::NotMessagePack(_))));
        assert!(matches!(unpack(b"\x80\x80"), Err(PackError::MoreFollows { left: 1 })));
        let deep = vec![0x91; limits::FRAME_DEPTH + 2];
        assert!(matches!(unpack(&deep), Err(PackError::NotMessagePack(_))));
        assert!(matches!(pack("{"), Err(PackError::NotJson(_))));
        // An announced length costs no memory before its bytes are there.
        assert!(unpack(b"\xdf\xff\xff\xff\xff").is_err());
    }
}
