//! The messages have every field of the schema.
#![allow(clippy::print_stdout, reason = "tests say when the files are absent")]

use super::*;

/// Whether a message consisting of this field is kept as it is.
fn keeps<M: Message + Default>(field: &[u8]) -> bool {
    M::decode(field).is_ok_and(|message| message.encode_to_vec() == field)
}

fn keeps_in(message: &str, number: u64, field: &[u8]) -> bool {
    match message {
        "ModelProto" => keeps::<ModelProto>(field),
        "ModelProto.UserInfoEntry" => keeps::<UserInfoEntry>(field),
        "GraphProto" => keeps::<GraphProto>(field),
        "NodeProto" => keeps::<NodeProto>(field),
        "PrimitiveProto" => keeps::<PrimitiveProto>(field),
        "ValueInfoProto" => keeps::<ValueInfoProto>(field),
        "TensorProto" => keeps::<TensorProto>(field),
        "TensorProto.ExternalDataProto" => keeps::<ExternalDataProto>(field),
        "TensorProto.QuantParamProto" => keeps::<QuantParamProto>(field),
        "MapTensorProto" => keeps::<MapTensorProto>(field),
        "AttributeProto" if number == 18 => keeps::<SeqInfoField>(field),
        "AttributeProto" => keeps::<AttributeProto>(field),
        "AttributeProto.SeqInfoProto" => keeps::<SeqInfoProto>(field),
        "FunctorProto" => keeps::<FunctorProto>(field),
        "ScalarGraphHolderProto" => keeps::<ScalarGraphHolderProto>(field),
        "ScalarNodeProto" => keeps::<ScalarNodeProto>(field),
        "PreprocessorProto" => keeps::<PreprocessorProto>(field),
        "PreprocessOpProto" => keeps::<PreprocessOpProto>(field),
        "ParallelProto" => keeps::<ParallelProto>(field),
        "LayoutProto" => keeps::<LayoutProto>(field),
        _ => false,
    }
}

#[test]
fn every_field_has_a_place() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/mindir-fields.tsv");
    let Ok(table) = fs::read_to_string(&path) else {
        println!("{} is not there: nothing is tested", path.display());
        return;
    };
    let mut fields = 0;
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [message, number, _, ty, name, wire, ..] = &*columns else { panic!("{row}") };
        // Of release 1.5; see `the_retired_varint_of_field_18_is_ignored`.
        if *name == "type_val" {
            continue;
        }
        let number: u64 = number.parse().unwrap();
        let (wire, contents): (u64, &[u8]) = match *wire {
            "varint(0)" => (0, &[1]),
            "fixed64(1)" => (1, &[1; 8]),
            "len(2)" if ty.starts_with("message") => (2, &[0]),
            "len(2)" => (2, &[1, b'x']),
            "fixed32(5)" => (5, &[1; 4]),
            wire => panic!("{wire}"),
        };
        let mut field = Vec::new();
        prost::encoding::encode_varint(number << 3 | wire, &mut field);
        field.extend(contents);
        assert!(keeps_in(message, number, &field), "{message}.{name} = {number}");
        fields += 1;
    }
    assert!(fields >= 122, "{fields}");
}
