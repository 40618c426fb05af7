//! Branches and loops: functions that are called last.

use mslite_mindir::{Symbol, Type};
use mslite_tensor::TensorSpec;

use super::names::plain;
use super::writer::{Arg, Item, Lifted, Writer, tensor_type};
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
        let mut way = |what: &str, body: &Graph, operands: &[Item]| {
            let (name, number) = self.function_named(what);
            let lifted = self.body(number, body)?;
            let further = self.lowered(&lifted)?;
            self.model.scope(self.origin.clone());
            Ok(self.partial(&name, symbols(operands).chain(further)))
        };
        let ways = [way("then", &branch.then, first)?, way("otherwise", &branch.otherwise, second)?];
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
        let ([again], results) = results.split_at(1) else {
            return Err(writer.unsupported("a loop", "it has no condition"));
        };
        let (next, results) = results.split_at(turns.carried);
        let (lifted, further): (Vec<Lifted>, Vec<Symbol>) =
            std::mem::take(&mut writer.lifted).into_iter().unzip();
        let next = writer.partial(&name, symbols(next).chain(symbols(&others)).chain(further));
        let done = writer.partial(&done.0, symbols(results));
        let chosen = writer.choose(again, [next, done], specs);
        writer.finish_with(chosen, of(specs));
        let further = self.lowered(&lifted)?;
        self.model.scope(self.origin.clone());
        let arguments: Vec<Symbol> = symbols(operands).chain(further).collect();
        let tuple = self.builder().call(&name, &arguments, Some(of(specs)));
        Ok(self.taken_apart(tuple, specs, used))
    }

    /// A new function: its name and its number.
    fn function_named(&mut self, what: &str) -> (Symbol, usize) {
        let name = self.functions.unique(&plain(&format!("{what}_{}", self.origin)));
        let mut function = self.model.function(&name);
        (function.name(), function.number())
    }

    /// Writes the graph inside an operation as a function; what it takes besides the inputs of the graph.
    fn body(&mut self, number: usize, body: &Graph) -> Result<Vec<Lifted>> {
        let mut writer = Writer::new(self.model, number, body, self.functions);
        writer.inputs()?;
        writer.nodes()?;
        let results = writer.results()?;
        writer.finish(&results);
        Ok(writer.lifted.into_iter().map(|(what, _)| what).collect())
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

    fn partial(&mut self, function: &Symbol, arguments: impl Iterator<Item = Symbol>) -> Symbol {
        let partial = self.primitive("Partial", &[("side_effect_propagate", 1.into())]);
        let args: Vec<Arg> = std::iter::once(function.clone()).chain(arguments).map(Arg::Symbol).collect();
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

fn symbols(items: &[Item]) -> impl Iterator<Item = Symbol> {
    items.iter().map(|item| item.symbol.clone())
}

/// The type of a function's result.
pub(super) fn of(specs: &[TensorSpec]) -> Type {
    match specs {
        [spec] => tensor_type(spec),
        _ => Type::tuple(specs.iter().map(tensor_type).collect::<Vec<_>>()),
    }
}
