//! Branches and loops: functions that are called last.

use std::sync::Arc;

use mslite_mindir::{Symbol, Type};
use mslite_tensor::TensorSpec;

use super::names::plain;
use super::writer::{Arg, Item, Writer, tensor_type};
use crate::Result;
use crate::ir::Graph;
use crate::ir::op::{If, Loop};

impl Writer<'_> {
    /// `Switch` between two functions, which is called.
    pub(super) fn branch(
        &mut self,
        branch: &If,
        operands: &[Item],
        specs: &[TensorSpec],
        used: &[bool],
    ) -> Result<Vec<Option<Symbol>>> {
        let [condition, operands @ ..] = operands else {
            return Err(self.unsupported("a branch", "it has no condition"));
        };
        let (first, second) = operands.split_at(branch.then.inputs().len());
        let then = self.function_named("then");
        self.body(then.1, &branch.then)?;
        let otherwise = self.function_named("otherwise");
        self.body(otherwise.1, &branch.otherwise)?;
        self.model.scope(self.origin.clone());
        let ways = [self.partial(&then.0, first), self.partial(&otherwise.0, second)];
        let tuple = self.choose(condition, ways, specs);
        Ok(self.taken_apart(tuple, specs, used))
    }

    /// A function that ends with a call of itself, or of one that returns the results.
    pub(super) fn turns(
        &mut self,
        turns: &Loop,
        operands: &[Item],
        specs: &[TensorSpec],
        used: &[bool],
    ) -> Result<Vec<Option<Symbol>>> {
        let done = self.function_named("done");
        self.returning(done.1, specs);
        let (name, number) = self.function_named("turn");
        let body = &turns.body;
        let mut writer = Writer::new(self.model, number, body, self.functions);
        writer.inputs()?;
        let others: Vec<Item> = writer.given()?.split_off(turns.carried);
        writer.nodes()?;
        writer.model.scope(self.origin.clone());
        let results = writer.results()?;
        let ([again], results) = results.split_at(1) else { return Ok(Vec::new()) };
        let (next, results) = results.split_at(turns.carried);
        let next = writer.partial(&name, &[next, &others].concat());
        let done = writer.partial(&done.0, results);
        let chosen = writer.choose(again, [next, done], specs);
        writer.finish_with(chosen, of(specs));
        let arguments: Vec<Symbol> = operands.iter().map(|item| item.symbol.clone()).collect();
        let tuple = self.builder().call(&name, &arguments, Some(of(specs)));
        Ok(self.taken_apart(tuple, specs, used))
    }

    /// A new function: its name and its number.
    fn function_named(&mut self, what: &str) -> (Symbol, usize) {
        let name = self.functions.unique(&plain(&format!("{what}_{}", self.origin)));
        let mut function = self.model.function(&name);
        (function.name(), function.number())
    }

    /// Writes the graph inside an operation as a function.
    fn body(&mut self, number: usize, body: &Arc<Graph>) -> Result<()> {
        let mut writer = Writer::new(self.model, number, body, self.functions);
        writer.inputs()?;
        writer.nodes()?;
        let results = writer.results()?;
        writer.finish(&results);
        Ok(())
    }

    /// A function that returns its arguments.
    fn returning(&mut self, number: usize, specs: &[TensorSpec]) {
        let primitive = self.primitive("MakeTuple", &[]);
        let mut function = self.model.graph(number);
        let input = |(i, spec)| function.input(&format!("result{i}"), tensor_type(spec));
        let inputs: Vec<Symbol> = specs.iter().enumerate().map(input).collect();
        let result = match &inputs[..] {
            [one] => one.clone(),
            _ => function.apply(&primitive, &inputs, Some(of(specs))),
        };
        function.output(&result, Some(of(specs)));
    }

    fn partial(&mut self, function: &Symbol, arguments: &[Item]) -> Symbol {
        let partial = self.primitive("Partial", &[("side_effect_propagate", 1.into())]);
        let arguments = arguments.iter().map(Arg::from);
        let args: Vec<Arg> = std::iter::once(Arg::Symbol(function.clone())).chain(arguments).collect();
        self.call(&partial, &args, Some(Type::Function(function.clone())))
    }

    fn choose(&mut self, condition: &Item, ways: [Symbol; 2], specs: &[TensorSpec]) -> Symbol {
        let switch = self.primitive("Switch", &[]);
        let [then, otherwise] = ways;
        let closure = self.call(&switch, &[condition.into(), then.into(), otherwise.into()], None);
        self.builder().call_closure(&closure, &[], Some(of(specs)))
    }

    fn taken_apart(&mut self, tuple: Symbol, specs: &[TensorSpec], used: &[bool]) -> Vec<Option<Symbol>> {
        match specs.len() {
            1 => vec![Some(tuple)],
            _ => self.elements(&tuple, specs, used),
        }
    }
}

/// The type of a function's result.
pub(super) fn of(specs: &[TensorSpec]) -> Type {
    match specs {
        [spec] => tensor_type(spec),
        _ => Type::tuple(specs.iter().map(tensor_type).collect::<Vec<_>>()),
    }
}
