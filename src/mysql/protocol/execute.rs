//! COM_STMT_EXECUTE: the fields the splitter has to know to run a statement on any server connection.
//!
//! A client sends parameter types only when they change; the server keeps them with its statement handle. A handle of
//! ours may have been used by another client in between, so the types always travel along. Query attributes are more
//! parameters behind those of the statement, each with a name; for a server that does not know them they are taken out.
//! Source: MySQL internals manual, `page_protocol_com_stmt_execute`.

use super::attributes::{is_null, named_types, skip_value};
use super::lenenc::Fields;
use super::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX, join_payload, put_message, put_packet};
use super::{ProtocolError, command};

/// Bytes from the command code to the iteration count.
const FIXED_BYTES: usize = 10;
/// Offset of the flags behind the command code.
const FLAGS_AT: usize = 5;
/// Flag: the number of parameters is told, because there are attributes (`PARAMETER_COUNT_AVAILABLE`).
const COUNT_FLAG: u8 = 8;

/// Why a statement cannot be executed whose types nobody knows.
const NEVER_SENT: ProtocolError = ProtocolError::Malformed("parameter types were never sent");

/// How a client writes the parameters of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Parameters of the statement itself.
    pub params: u16,
    /// The client has CLIENT_QUERY_ATTRIBUTES.
    pub attributes: bool,
}

/// Statement id of COM_STMT_EXECUTE, FETCH, RESET, CLOSE and SEND_LONG_DATA; `message` is complete, with headers.
pub fn statement_id(message: &[u8]) -> Result<u32, ProtocolError> {
    let bytes = message.get(HEADER_BYTES + 1..HEADER_BYTES + 5).ok_or(ProtocolError::Truncated)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Index of the parameter in COM_STMT_SEND_LONG_DATA.
pub fn piece_index(message: &[u8]) -> Option<u16> {
    let bytes = message.get(HEADER_BYTES + 5..HEADER_BYTES + 7)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Whether the client asks for a cursor. `message` as above.
pub fn wants_cursor(message: &[u8]) -> bool {
    message.get(HEADER_BYTES + FLAGS_AT).is_some_and(|flags| flags & !COUNT_FLAG != 0)
}

/// Overwrites the statement id.
pub fn patch_statement_id(message: &mut [u8], statement_id: u32) {
    if let Some(bytes) = message.get_mut(HEADER_BYTES + 1..HEADER_BYTES + 5) {
        bytes.copy_from_slice(&statement_id.to_le_bytes());
    }
}

/// What stands in front of the values.
struct Head<'a> {
    /// Parameters and attributes.
    count: usize,
    /// A bit for each.
    nulls: &'a [u8],
    /// The block of types, names among them; `None`: those sent before hold.
    types: Option<&'a [u8]>,
    /// Offset in the payload behind the flag that says so.
    types_at: usize,
}

/// Reads the payload of COM_STMT_EXECUTE up to its values.
fn head(payload: &[u8], form: Form) -> Result<Head<'_>, ProtocolError> {
    let mut fields = Fields::new(payload);
    let fixed = fields.bytes(FIXED_BYTES)?;
    if fixed[0] != command::STMT_EXECUTE {
        return Err(ProtocolError::Malformed("COM_STMT_EXECUTE"));
    }
    let params = usize::from(form.params);
    let count = match form.attributes && (params > 0 || fixed[FLAGS_AT] & COUNT_FLAG != 0) {
        true => usize::from(u16::try_from(fields.int()?).map_err(|_| ProtocolError::Malformed("parameter count"))?),
        false => params,
    };
    if count < params {
        return Err(ProtocolError::Malformed("fewer parameters than the statement has"));
    }
    if count == 0 {
        return Ok(Head { count, nulls: b"", types: Some(b""), types_at: payload.len() - fields.rest().len() });
    }
    let nulls = fields.bytes(count.div_ceil(8))?;
    let is_bound = match fields.u8()? {
        0 => false,
        1 => true,
        _ => return Err(ProtocolError::Malformed("new-params-bound flag")),
    };
    let types_at = payload.len() - fields.rest().len();
    if is_bound && form.attributes {
        named_types(&mut fields, count)?;
    } else if is_bound {
        fields.bytes(2 * count)?;
    }
    let types = is_bound.then(|| &payload[types_at..payload.len() - fields.rest().len()]);
    Ok(Head { count, nulls, types, types_at })
}

/// The first packet's payload: all that comes in front of the values must lie in it.
fn first_payload(message: &[u8]) -> &[u8] {
    let payload = message.get(HEADER_BYTES..).unwrap_or_default();
    &payload[..payload.len().min(PAYLOAD_BYTES_MAX)]
}

/// The block of parameter types in a complete message, when it carries one: two bytes each, with its name behind it
/// where the client has attributes.
///
/// `Ok(None)`: the client relies on the types it sent before. Errors: `Truncated` when the message is shorter than its
/// parameters need, `Malformed`.
pub fn types(message: &[u8], form: Form) -> Result<Option<&[u8]>, ProtocolError> {
    Ok(head(first_payload(message), form)?.types)
}

/// Whether the types of all parameters in a complete message are known: it carries them, or `known` are those sent before.
///
/// Errors: as [`types`]; `Malformed` when those known are not for so many parameters.
pub fn check_bound(message: &[u8], form: Form, known: &[u8]) -> Result<(), ProtocolError> {
    let head = head(first_payload(message), form)?;
    if head.types.is_some() { Ok(()) } else { check_types(known, head.count, form) }
}

/// What is known of a client's statement when it is executed.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// How the client writes.
    pub form: Form,
    /// Types it sent before.
    pub types: &'a [u8],
    /// Parameters it has sent in pieces, which have no value in the message.
    pub pieces: &'a [u16],
}

/// Appends `message` to `out` with the server's statement id and with the known types inserted when it carries none.
/// `keeps_attributes`: the server knows attributes; else they are taken out.
///
/// Errors: as [`types`]; `Malformed` when types are needed and those known are not for so many parameters.
pub fn put_rebound(
    out: &mut Vec<u8>,
    message: &[u8],
    server_id: u32,
    binding: Binding<'_>,
    keeps_attributes: bool,
) -> Result<(), ProtocolError> {
    let start = out.len();
    let head = head(first_payload(message), binding.form)?;
    if binding.form.attributes && !keeps_attributes {
        put_message(out, &without_attributes(&join_payload(message), binding)?);
    } else if head.types.is_some() {
        out.extend_from_slice(message);
    } else {
        check_types(binding.types, head.count, binding.form)?;
        let first = first_payload(message);
        // In front of the types: the flag that says whether there are any. It was read, so it is there.
        let (before, values) = (&first[..head.types_at - 1], &first[head.types_at..]);
        if message.len() - HEADER_BYTES + binding.types.len() < PAYLOAD_BYTES_MAX {
            put_packet(out, 0, |p| {
                [before, &[1], binding.types, values].iter().for_each(|part| p.extend_from_slice(part))
            });
        } else {
            let all = join_payload(message);
            put_message(out, &[before, &[1], binding.types, &all[head.types_at..]].concat());
        }
    }
    patch_statement_id(&mut out[start..], server_id);
    Ok(())
}

/// Errors: a block does not have exactly `count` types.
fn check_types(block: &[u8], count: usize, form: Form) -> Result<(), ProtocolError> {
    match form.attributes {
        true => types_of(block, count, form).map(drop),
        false if block.len() == 2 * count => Ok(()),
        false => Err(NEVER_SENT),
    }
}

/// The types in a block. Errors: they are not exactly `count`.
fn types_of(block: &[u8], count: usize, form: Form) -> Result<Vec<u16>, ProtocolError> {
    let mut fields = Fields::new(block);
    let types = match form.attributes {
        true => named_types(&mut fields, count),
        false => (0..count).map(|_| fields.u16()).collect(),
    };
    match types {
        Ok(types) if fields.is_empty() => Ok(types),
        _ => Err(NEVER_SENT),
    }
}

/// The payload as a client without attributes would have written it.
fn without_attributes(payload: &[u8], binding: Binding<'_>) -> Result<Vec<u8>, ProtocolError> {
    let (head, params) = (head(payload, binding.form)?, usize::from(binding.form.params));
    let types = types_of(head.types.unwrap_or(binding.types), head.count, binding.form)?;
    let values = &payload[head.types_at + head.types.map_or(0, <[u8]>::len)..];
    let mut fields = Fields::new(values);
    let mut is_in_pieces = vec![false; params];
    for piece in binding.pieces {
        if let Some(is_in_pieces) = is_in_pieces.get_mut(usize::from(*piece)) {
            *is_in_pieces = true;
        }
    }
    for (index, kind) in types[..params].iter().enumerate() {
        if !is_null(head.nulls, index) && !is_in_pieces[index] {
            skip_value(&mut fields, *kind)?;
        }
    }
    let mut out = payload[..FIXED_BYTES].to_vec();
    out[FLAGS_AT] &= !COUNT_FLAG;
    if params > 0 {
        let nulls = out.len()..out.len() + params.div_ceil(8);
        out.extend_from_slice(&head.nulls[..params.div_ceil(8)]);
        if params % 8 != 0 {
            out[nulls.end - 1] &= (1 << (params % 8)) - 1;
        }
        out.push(1);
        out.extend(types[..params].iter().flat_map(|kind| kind.to_le_bytes()));
        out.extend_from_slice(&values[..values.len() - fields.rest().len()]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::lenenc::{put_bytes, put_int};
    use super::super::packet::put_packet;
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Form = Form { params: 2, attributes: false };

    fn execute(bound: bool, types: &[u8], values: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, 0, |p| {
            p.extend_from_slice(&[command::STMT_EXECUTE, 9, 0, 0, 0, 0, 1, 0, 0, 0]);
            p.push(0); // NULL bitmap of up to 8 parameters
            p.push(u8::from(bound));
            p.extend_from_slice(types);
            p.extend_from_slice(values);
        });
        out
    }

    fn binding<'a>(form: Form, types: &'a [u8], pieces: &'a [u16]) -> Binding<'a> {
        Binding { form, types, pieces }
    }

    #[test]
    fn types_sent_before_are_inserted() {
        let types_block = [8, 0, 253, 0];
        let with = execute(true, &types_block, b"values");
        let without = execute(false, &[], b"values");
        assert_eq!(types(&with, PLAIN), Ok(Some(&types_block[..])));
        assert_eq!(types(&without, PLAIN), Ok(None));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        put_rebound(&mut a, &with, 77, binding(PLAIN, &[], &[]), true).unwrap();
        put_rebound(&mut b, &without, 77, binding(PLAIN, &types_block, &[]), true).unwrap();
        assert_eq!(a, b);
        assert_eq!(statement_id(&a), Ok(77));
        assert!(put_rebound(&mut a, &without, 77, binding(PLAIN, &[], &[]), true).is_err());
    }

    #[test]
    fn short_messages_are_errors() {
        let with = execute(true, &[8, 0, 253, 0], b"");
        for cut in 0..with.len() {
            assert!(types(&with[..cut], PLAIN).is_err(), "cut at {cut}");
        }
        let none = Form { params: 0, attributes: false };
        assert_eq!(types(&with, none), Ok(Some(&[][..])));
    }

    #[test]
    fn inserting_types_may_cross_the_16_mib_edge() {
        let mut payload = vec![command::STMT_EXECUTE, 9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        payload.resize(PAYLOAD_BYTES_MAX - 1, 7);
        let (mut message, mut out) = (Vec::new(), Vec::new());
        put_message(&mut message, &payload);
        let one = Form { params: 1, attributes: false };
        put_rebound(&mut out, &message, 1, binding(one, &[252, 0], &[]), true).unwrap();
        let rebound = join_payload(&out);
        assert_eq!(rebound.len(), PAYLOAD_BYTES_MAX + 1);
        assert_eq!(rebound[11..14], [1, 252, 0]);
    }

    /// A message with parameters that have types, names and values; all of them are sent along.
    fn attributed(nulls: u8, bound: bool, parameters: &[(u16, &str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, 0, |p| {
            p.extend_from_slice(&[command::STMT_EXECUTE, 9, 0, 0, 0, 1 | COUNT_FLAG, 1, 0, 0, 0]);
            put_int(p, parameters.len() as u64);
            p.push(nulls);
            p.push(u8::from(bound));
            if bound {
                p.extend_from_slice(&block(parameters));
            }
            for (_, _, value) in parameters {
                p.extend_from_slice(value);
            }
        });
        out
    }

    fn block(parameters: &[(u16, &str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, name, _) in parameters {
            out.extend_from_slice(&kind.to_le_bytes());
            put_bytes(&mut out, name.as_bytes());
        }
        out
    }

    const FORM: Form = Form { params: 2, attributes: true };

    #[test]
    fn attributes_are_passed_on_or_taken_out() {
        let parameters: [(u16, &str, &[u8]); 3] =
            [(3, "", b"\x01\0\0\0"), (253, "", b"\x02xy"), (253, "trace", b"\x01z")];
        let known = block(&parameters);
        for bound in [true, false] {
            let message = attributed(0, bound, &parameters);
            let mut out = Vec::new();
            put_rebound(&mut out, &message, 5, binding(FORM, &known, &[]), true).unwrap();
            let mut whole = attributed(0, true, &parameters);
            patch_statement_id(&mut whole, 5);
            assert_eq!(out, whole, "for a server that knows them");
            out.clear();
            put_rebound(&mut out, &message, 5, binding(FORM, &known, &[]), false).unwrap();
            let mut plain = execute(true, &[3, 0, 253, 0], b"\x01\0\0\0\x02xy");
            plain[HEADER_BYTES + FLAGS_AT] = 1;
            patch_statement_id(&mut plain, 5);
            assert_eq!(out, plain, "for one that does not");
            assert!(
                put_rebound(&mut out, &attributed(0, false, &parameters), 5, binding(FORM, &[], &[]), false).is_err()
            );
        }
        assert!(wants_cursor(&attributed(0, true, &parameters)));
    }

    #[test]
    fn nulls_and_pieces_have_no_value() {
        let parameters: [(u16, &str, &[u8]); 3] = [(252, "", b""), (3, "", b""), (8, "n", &[1; 8])];
        let message = attributed(0b010, true, &parameters);
        let mut out = Vec::new();
        put_rebound(&mut out, &message, 5, binding(FORM, &[], &[0]), false).unwrap();
        let payload = join_payload(&out);
        assert_eq!(payload[FIXED_BYTES..], [0b010, 1, 252, 0, 3, 0]);
    }

    #[test]
    fn a_statement_without_parameters_may_have_attributes() {
        let form = Form { params: 0, attributes: true };
        let message = attributed(0, true, &[(253, "trace", b"\x01z")]);
        assert!(types(&message, form).unwrap().is_some_and(|types| types.len() == 8));
        let mut out = Vec::new();
        put_rebound(&mut out, &message, 5, binding(form, &[], &[]), false).unwrap();
        assert_eq!(join_payload(&out), [command::STMT_EXECUTE, 5, 0, 0, 0, 1, 1, 0, 0, 0]);
        out.clear();
        let bare = [&[10, 0, 0, 0][..], &[command::STMT_EXECUTE, 9, 0, 0, 0, 0, 1, 0, 0, 0]].concat();
        assert_eq!(types(&bare, form), Ok(Some(&b""[..])));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>, params: u16, attributes: bool, keeps: bool) {
            let mut message = Vec::new();
            put_packet(&mut message, 0, |p| { p.push(command::STMT_EXECUTE); p.extend_from_slice(&payload); });
            let form = Form { params: params % 20, attributes };
            let mut out = Vec::new();
            let _ = put_rebound(&mut out, &message, 1, binding(form, &[3, 0, 0], &[]), keeps);
            let _ = (types(&payload, form), statement_id(&payload), piece_index(&payload));
        }
    }
}
