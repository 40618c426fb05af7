//! Writes small MindIR files by hand.

/// A graph in the making. Inputs are f32 matrices of 2 by 3, or vectors.
pub(crate) struct Function {
    name: String,
    nodes: Vec<u8>,
    inputs: Vec<u8>,
    output: Vec<u8>,
}

impl Function {
    pub(crate) fn new(name: &str) -> Self {
        Function { name: name.to_owned(), nodes: Vec::new(), inputs: Vec::new(), output: Vec::new() }
    }

    pub(crate) fn input(&mut self, name: &str) -> &mut Self {
        self.input_of(name, &[2, 3])
    }

    /// An input of unknown length.
    pub(crate) fn open_input(&mut self, name: &str) -> &mut Self {
        self.input_of(name, &[-1])
    }

    fn input_of(&mut self, name: &str, dims: &[i64]) -> &mut Self {
        let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim as u64)).collect();
        let tensor = [dims, number(2, 1)].concat();
        let symbol = format!("{}:{name}", self.name);
        self.inputs.extend(bytes(5, &[text(1, &symbol), bytes(2, &tensor)].concat()));
        self
    }

    /// An integer constant.
    pub(crate) fn int(&mut self, name: &str, value: u64) -> &mut Self {
        let attribute = [text(1, "value"), number(3, value), number(16, 7)].concat();
        let node = [text(2, name), text(3, name), text(4, "Constant"), bytes(5, &attribute)].concat();
        self.nodes.extend(bytes(1, &node));
        self
    }

    /// A primitive with its name as the operator type, as old files have it. The result is `<graph>:<name>:1`.
    pub(crate) fn apply(&mut self, name: &str, op_type: &str, operands: &[&str]) -> &mut Self {
        let symbol = format!("{}:{name}:1", self.name);
        let mut node: Vec<u8> = operands.iter().flat_map(|operand| text(1, operand)).collect();
        node.extend([text(2, &symbol), text(3, &symbol), text(4, op_type)].concat());
        node.extend(text(7, &format!("Default/{name}")));
        self.nodes.extend(bytes(1, &node));
        self
    }

    pub(crate) fn call(&mut self, name: &str, function: &str, operands: &[&str]) -> &mut Self {
        self.apply(name, &format!("REF::{function}"), operands)
    }

    pub(crate) fn output(&mut self, symbol: &str) {
        self.output = bytes(6, &text(1, symbol));
    }

    fn message(&self) -> Vec<u8> {
        [self.nodes.clone(), text(2, &self.name), self.inputs.clone(), self.output.clone()].concat()
    }
}

/// The file: the first graph is the entry.
pub(crate) fn model(functions: &[Function]) -> Vec<u8> {
    let mut file = [text(1, "1.1"), text(2, "MindSpore"), text(5, "2.10.0")].concat();
    for (i, function) in functions.iter().enumerate() {
        file.extend(bytes(if i == 0 { 7 } else { 8 }, &function.message()));
    }
    [file, number(13, 1)].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}
