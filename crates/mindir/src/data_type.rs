use std::fmt;

use mslite_tensor::DType;

/// Element type as the format numbers it (`TensorProto.DataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DataType {
    /// Not said.
    Undefined = 0,
    /// IEEE 754 single precision.
    Float32 = 1,
    /// Unsigned, 8 bits.
    Uint8 = 2,
    /// Signed, 8 bits.
    Int8 = 3,
    /// Unsigned, 16 bits.
    Uint16 = 4,
    /// Signed, 16 bits.
    Int16 = 5,
    /// Signed, 32 bits.
    Int32 = 6,
    /// Signed, 64 bits.
    Int64 = 7,
    /// Text.
    String = 8,
    /// One byte, 0 or 1.
    Bool = 9,
    /// IEEE 754 half precision.
    Float16 = 10,
    /// IEEE 754 double precision; number 17 means the same and is read as this.
    Float64 = 11,
    /// Unsigned, 32 bits.
    Uint32 = 12,
    /// Unsigned, 64 bits.
    Uint64 = 13,
    /// Two single precision numbers.
    Complex64 = 14,
    /// Two double precision numbers.
    Complex128 = 15,
    /// The upper half of a single precision number.
    Bfloat16 = 16,
    /// Two signed 4-bit values per byte.
    Qint4x2 = 18,
}

impl DataType {
    /// The type behind a number of the format, if there is one.
    pub const fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => DataType::Undefined,
            1 => DataType::Float32,
            2 => DataType::Uint8,
            3 => DataType::Int8,
            4 => DataType::Uint16,
            5 => DataType::Int16,
            6 => DataType::Int32,
            7 => DataType::Int64,
            8 => DataType::String,
            9 => DataType::Bool,
            10 => DataType::Float16,
            11 | 17 => DataType::Float64,
            12 => DataType::Uint32,
            13 => DataType::Uint64,
            14 => DataType::Complex64,
            15 => DataType::Complex128,
            16 => DataType::Bfloat16,
            18 => DataType::Qint4x2,
            _ => return None,
        })
    }

    /// The number in the format.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The element type of tensors; `None` for `Undefined`, `String` and `Qint4x2`.
    pub const fn dtype(self) -> Option<DType> {
        Some(match self {
            DataType::Float32 => DType::F32,
            DataType::Uint8 => DType::U8,
            DataType::Int8 => DType::I8,
            DataType::Uint16 => DType::U16,
            DataType::Int16 => DType::I16,
            DataType::Int32 => DType::I32,
            DataType::Int64 => DType::I64,
            DataType::Bool => DType::Bool,
            DataType::Float16 => DType::F16,
            DataType::Float64 => DType::F64,
            DataType::Uint32 => DType::U32,
            DataType::Uint64 => DType::U64,
            DataType::Complex64 => DType::C64,
            DataType::Complex128 => DType::C128,
            DataType::Bfloat16 => DType::BF16,
            DataType::Undefined | DataType::String | DataType::Qint4x2 => return None,
        })
    }
}

impl From<DType> for DataType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => DataType::Float32,
            DType::U8 => DataType::Uint8,
            DType::I8 => DataType::Int8,
            DType::U16 => DataType::Uint16,
            DType::I16 => DataType::Int16,
            DType::I32 => DataType::Int32,
            DType::I64 => DataType::Int64,
            DType::Bool => DataType::Bool,
            DType::F16 => DataType::Float16,
            DType::F64 => DataType::Float64,
            DType::U32 => DataType::Uint32,
            DType::U64 => DataType::Uint64,
            DType::C64 => DataType::Complex64,
            DType::C128 => DataType::Complex128,
            DType::BF16 => DataType::Bfloat16,
            // The format has no number for what may be added.
            _ => DataType::Undefined,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.dtype(), self) {
            (Some(dtype), _) => dtype.fmt(f),
            (None, DataType::String) => f.pad("string"),
            (None, DataType::Qint4x2) => f.pad("qint4x2"),
            (None, _) => f.pad("undefined"),
        }
    }
}

/// The element type behind a MindSpore `TypeId` number, as `Cast`, `Zeros` or `Argmax` take it for an operand.
///
/// The numbers from 45 up moved after release 2.0, hence `model_version`, the release that wrote the file; text
/// that is no version counts as recent. `None` for numbers that name no tensor type of a known width.
pub fn dtype_of_type_id(id: i64, model_version: &str) -> Option<DType> {
    if id >= FIRST_MOVED && is_up_to_2_0(model_version) {
        return match id {
            45 => Some(DType::F64),
            47 => Some(DType::C64),
            48 => Some(DType::C128),
            _ => None,
        };
    }
    TYPE_IDS.iter().find(|(number, _)| *number == id).map(|(_, dtype)| *dtype)
}

/// The `TypeId` number of an element type in releases after 2.0; `None` for types that MindSpore does not have.
pub fn type_id_of_dtype(dtype: DType) -> Option<i64> {
    TYPE_IDS.iter().find(|(_, known)| *known == dtype).map(|(number, _)| *number)
}

/// The lowest number that meant another type up to release 2.0.
const FIRST_MOVED: i64 = 45;

const TYPE_IDS: &[(i64, DType)] = &[
    (30, DType::Bool),
    (32, DType::I8),
    (33, DType::I16),
    (34, DType::I32),
    (35, DType::I64),
    (37, DType::U8),
    (38, DType::U16),
    (39, DType::U32),
    (40, DType::U64),
    (42, DType::F16),
    (43, DType::F32),
    (44, DType::F64),
    (45, DType::BF16),
    (51, DType::C64),
    (52, DType::C128),
];

fn is_up_to_2_0(model_version: &str) -> bool {
    let mut parts = model_version.split(['.', ':', '-']).map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)) <= (2, 0),
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_except_the_second_double() {
        for number in (0..=18).filter(|&n| n != 17) {
            let dtype = DataType::from_number(number).unwrap();
            assert_eq!(dtype.number(), number);
            assert!(dtype.dtype().is_none_or(|of_tensors| DataType::from(of_tensors) == dtype));
        }
        assert_eq!(DataType::from_number(17), Some(DataType::Float64));
        assert_eq!(DataType::from_number(19), None);
        assert_eq!(DataType::from_number(-1), None);
    }

    #[test]
    fn type_ids_moved_after_2_0() {
        assert_eq!(dtype_of_type_id(43, "2.10.0"), Some(DType::F32));
        assert_eq!(dtype_of_type_id(45, "2.10.0"), Some(DType::BF16));
        assert_eq!(dtype_of_type_id(45, "2.7.0"), Some(DType::BF16));
        assert_eq!(dtype_of_type_id(45, "2.0.0:"), Some(DType::F64));
        assert_eq!(dtype_of_type_id(47, "1.10.1"), Some(DType::C64));
        assert_eq!(dtype_of_type_id(51, ""), Some(DType::C64));
        assert_eq!(dtype_of_type_id(31, "2.10.0"), None);
        assert_eq!(dtype_of_type_id(i64::MIN, "2.0.0"), None);
        for (id, dtype) in TYPE_IDS {
            assert_eq!(type_id_of_dtype(*dtype), Some(*id));
            assert_eq!(dtype_of_type_id(*id, "2.10.0"), Some(*dtype));
        }
    }
}
