//! Query attributes: named values that a client sends along with a statement (CLIENT_QUERY_ATTRIBUTES).
//!
//! Here they are only found and stepped over: where the SQL begins, and where a statement's own values end.
//! Source: MySQL internals manual, `page_protocol_com_query`, `page_protocol_com_stmt_execute`; types:
//! `field_types.h`.

use super::ProtocolError;
use super::lenenc::Fields;

/// Offset of the SQL in the body of COM_QUERY (what follows the command code) of a client with the capability.
///
/// Errors: `Truncated` and `Malformed`; also when the attributes do not end within `body`.
pub fn sql_offset(body: &[u8]) -> Result<usize, ProtocolError> {
    let mut fields = Fields::new(body);
    let (count, sets) = (fields.int()?, fields.int()?);
    if sets != 1 {
        return Err(ProtocolError::Malformed("number of parameter sets"));
    }
    if count > 0 {
        let count = usize::from(u16::try_from(count).map_err(|_| ProtocolError::Malformed("number of attributes"))?);
        let nulls = fields.bytes(count.div_ceil(8))?;
        if fields.u8()? != 1 {
            return Err(ProtocolError::Malformed("attributes without types"));
        }
        let types = named_types(&mut fields, count)?;
        for (index, kind) in types.into_iter().enumerate() {
            if !is_null(nulls, index) {
                skip_value(&mut fields, kind)?;
            }
        }
    }
    Ok(body.len() - fields.rest().len())
}

/// `count` types, each with a name behind it.
pub(super) fn named_types(fields: &mut Fields<'_>, count: usize) -> Result<Vec<u16>, ProtocolError> {
    // Three bytes each at least: the packet bounds what is asked for.
    let mut types = Vec::with_capacity(count.min(fields.rest().len() / 3));
    for _ in 0..count {
        types.push(fields.u16()?);
        fields.string()?;
    }
    Ok(types)
}

/// Bit `index` of a NULL bitmap.
pub(super) fn is_null(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte & 1 << (index % 8) != 0)
}

/// Steps over one value of the binary protocol.
pub(super) fn skip_value(fields: &mut Fields<'_>, kind: u16) -> Result<(), ProtocolError> {
    let bytes = match kind as u8 {
        6 => 0,                             // NULL
        1 | 244 => 1,                       // TINY, BOOL
        2 | 13 => 2,                        // SHORT, YEAR
        3 | 4 | 9 => 4,                     // LONG, FLOAT, INT24
        5 | 8 => 8,                         // DOUBLE, LONGLONG
        7 | 10..=12 => fields.u8()?.into(), // TIMESTAMP, DATE, TIME, DATETIME
        _ => return fields.string().map(|_| ()),
    };
    fields.bytes(bytes).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::lenenc::{put_bytes, put_int};
    use super::*;
    use proptest::prelude::*;

    /// The body of a COM_QUERY with these attributes: type, name, value as bytes (`None`: NULL).
    fn body(attributes: &[(u16, &str, Option<&[u8]>)], sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_int(&mut out, attributes.len() as u64);
        put_int(&mut out, 1);
        if !attributes.is_empty() {
            let mut nulls = vec![0u8; attributes.len().div_ceil(8)];
            for (at, _) in attributes.iter().enumerate().filter(|(_, (_, _, value))| value.is_none()) {
                nulls[at / 8] |= 1 << (at % 8);
            }
            out.extend_from_slice(&nulls);
            out.push(1);
            for (kind, name, _) in attributes {
                out.extend_from_slice(&kind.to_le_bytes());
                put_bytes(&mut out, name.as_bytes());
            }
            for value in attributes.iter().filter_map(|(_, _, value)| *value) {
                out.extend_from_slice(value);
            }
        }
        out.extend_from_slice(sql.as_bytes());
        out
    }

    #[test]
    fn the_sql_begins_behind_all_attributes() {
        let sql = "SELECT 1";
        let many: Vec<(u16, &str, Option<&[u8]>)> = (0..20).map(|_| (1, "n", Some(&b"\x07"[..]))).collect();
        for attributes in [
            &[][..],
            &[(253, "trace", Some(&b"\x05abcde"[..]))],
            &[(8, "a", Some(&[0; 8][..])), (3, "b", None), (12, "c", Some(b"\x041234")), (254, "", Some(b"\x00"))],
            &many,
        ] {
            let body = body(attributes, sql);
            let offset = sql_offset(&body).unwrap();
            assert_eq!(&body[offset..], sql.as_bytes(), "{attributes:?}");
            for cut in 0..offset {
                assert!(sql_offset(&body[..cut]).is_err(), "cut at {cut} of {attributes:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            prop_assert!(sql_offset(&body).is_ok_and(|at| at <= body.len()) || sql_offset(&body).is_err());
        }
    }
}
