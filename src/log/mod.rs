//! tmp
use std::net::IpAddr;
use std::time::Duration;
pub struct AccessLog;
pub struct Entry<'a> { pub remote: IpAddr, pub method:&'a [u8], pub target:&'a [u8], pub version: crate::http::h1::Version, pub host:&'a [u8], pub status:u16, pub body_bytes:u64, pub duration: Duration, pub referer:&'a [u8], pub user_agent:&'a[u8], pub request_id:u64, pub served_by: crate::metrics::ServedBy }
impl AccessLog { pub fn record(&self,_:&Entry<'_>){} pub fn flush_due(&self){} pub fn flush(&self){} }
