# A Rack application, which is what Rails is to its server, for tests/processes_real.rs.

run lambda { |env|
  text = env["REQUEST_METHOD"] == "POST" ? env["rack.input"].read : "here"
  [200, { "content-type" => "text/plain", "content-length" => text.bytesize.to_s }, [text]]
}
