//! OpenSSL as it is: a server with memory BIOs and nothing around it, and the client for both
//! servers of the benchmark.

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslStream, SslVersion,
};
use openssl_sys as ffi;

/// Numbers of the devices, each with an identity of its own.
static NEXT: AtomicU64 = AtomicU64::new(123_456_789_012_345);
pub const KEY: &[u8] = b"0123456789abcdef";
pub const SUITE: &str = "PSK-AES128-CCM8";

unsafe extern "C" {
    fn BIO_ADDR_new() -> *mut c_void;
    fn BIO_ADDR_free(address: *mut c_void);
    fn DTLSv1_listen(ssl: *mut ffi::SSL, client: *mut c_void) -> c_int;
    fn SSL_free_buffers(ssl: *mut ffi::SSL) -> c_int;
    fn SSL_alloc_buffers(ssl: *mut ffi::SSL) -> c_int;
    fn SSL_set_accept_state(ssl: *mut ffi::SSL);
    fn HMAC(
        digest: *const ffi::EVP_MD,
        key: *const c_void,
        key_len: c_int,
        data: *const c_uchar,
        data_len: usize,
        code: *mut c_uchar,
        code_len: *mut c_uint,
    ) -> *mut c_uchar;
}

fn cookie() -> [u8; 32] {
    let (key, address) = ([7u8; 32], [1u8; 18]);
    let mut code = [0; 32];
    let mut length = 32;
    // SAFETY: all lengths are those of their buffers; SHA-256 has 32 bytes.
    unsafe {
        HMAC(
            ffi::EVP_sha256(),
            key.as_ptr().cast(),
            32,
            address.as_ptr(),
            address.len(),
            code.as_mut_ptr(),
            &raw mut length,
        )
    };
    code
}

extern "C" fn give_key(_: *mut ffi::SSL, _: *const c_char, key: *mut c_uchar, _: c_uint) -> c_uint {
    // SAFETY: OpenSSL has room for 256 bytes at least.
    unsafe { ptr::copy_nonoverlapping(KEY.as_ptr(), key, KEY.len()) };
    KEY.len() as c_uint
}

extern "C" fn generate_cookie(_: *mut ffi::SSL, to: *mut c_uchar, length: *mut c_uint) -> c_int {
    // SAFETY: OpenSSL has room for 255 bytes, and for a length.
    unsafe {
        ptr::copy_nonoverlapping(cookie().as_ptr(), to, 32);
        *length = 32;
    }
    1
}

extern "C" fn verify_cookie(_: *mut ffi::SSL, given: *const c_uchar, length: c_uint) -> c_int {
    // SAFETY: OpenSSL gives so many bytes.
    let given = unsafe { std::slice::from_raw_parts(given, length as usize) };
    c_int::from(given == cookie())
}

/// The server.
pub struct RawServer {
    context: SslContext,
    listening: Connection,
    address: *mut c_void,
    pub connections: Vec<Connection>,
    buffer: Vec<u8>,
}

/// One connection with its memory BIOs.
pub struct Connection {
    ssl: *mut ffi::SSL,
    input: *mut ffi::BIO,
    output: *mut ffi::BIO,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: made in `new`, not used any more; it owns its BIOs.
        unsafe { ffi::SSL_free(self.ssl) };
    }
}

impl Connection {
    fn new(context: &SslContext) -> Self {
        // SAFETY: the context is live and outlives nothing: each object holds a reference. Both
        // BIOs belong to the object.
        unsafe {
            let context = ptr::from_ref::<openssl::ssl::SslContextRef>(context);
            let ssl = ffi::SSL_new(context.cast_mut().cast());
            let input = ffi::BIO_new(ffi::BIO_s_mem());
            let output = ffi::BIO_new(ffi::BIO_s_mem());
            ffi::SSL_set_bio(ssl, input, output);
            // Control 17 is SSL_set_mtu.
            ffi::SSL_ctrl(ssl, 17, 1200 as c_long, ptr::null_mut());
            SSL_set_accept_state(ssl);
            Self { ssl, input, output }
        }
    }

    fn put(&self, datagram: &[u8]) {
        // SAFETY: the BIO is live and the length that of the buffer.
        unsafe {
            ffi::BIO_write(
                self.input,
                datagram.as_ptr().cast(),
                datagram.len() as c_int,
            )
        };
    }

    fn take(&self, buffer: &mut [u8]) -> usize {
        // SAFETY: the BIO is live and the length that of the buffer.
        let length = unsafe {
            ffi::BIO_read(
                self.output,
                buffer.as_mut_ptr().cast(),
                buffer.len() as c_int,
            )
        };
        usize::try_from(length).unwrap_or(0)
    }

    /// Payload of the record in a datagram.
    pub fn open(&self, datagram: &[u8], buffer: &mut [u8]) -> usize {
        self.put(datagram);
        // SAFETY: the object is live and the length that of the buffer.
        let length = unsafe {
            ffi::ERR_clear_error();
            ffi::SSL_read(self.ssl, buffer.as_mut_ptr().cast(), buffer.len() as c_int)
        };
        usize::try_from(length).unwrap_or(0)
    }

    /// A datagram with a payload.
    pub fn seal(&self, payload: &[u8], buffer: &mut [u8]) -> usize {
        // SAFETY: the object is live and the length that of the payload.
        unsafe {
            ffi::ERR_clear_error();
            ffi::SSL_write(self.ssl, payload.as_ptr().cast(), payload.len() as c_int)
        };
        self.take(buffer)
    }

    pub fn free_buffers(&self) {
        // SAFETY: the object is live.
        unsafe { SSL_free_buffers(self.ssl) };
    }

    pub fn alloc_buffers(&self) {
        // SAFETY: the object is live.
        unsafe { SSL_alloc_buffers(self.ssl) };
    }
}

impl RawServer {
    pub fn new() -> Self {
        let mut builder = SslContext::builder(SslMethod::dtls_server()).unwrap();
        builder
            .set_max_proto_version(Some(SslVersion::DTLS1_2))
            .unwrap();
        builder.set_cipher_list(SUITE).unwrap();
        builder.set_security_level(0);
        builder.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
        builder.set_session_id_context(b"raw").unwrap();
        builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
        builder.set_session_cache_size(10_000);
        // SAFETY: the context is live and the callbacks do what OpenSSL expects of them.
        unsafe {
            ffi::SSL_CTX_set_psk_server_callback(builder.as_ptr(), Some(give_key));
            ffi::SSL_CTX_set_cookie_generate_cb(builder.as_ptr(), Some(generate_cookie));
            ffi::SSL_CTX_set_cookie_verify_cb(builder.as_ptr(), Some(verify_cookie));
        }
        let context = builder.build();
        Self {
            listening: Connection::new(&context),
            context,
            // SAFETY: no arguments.
            address: unsafe { BIO_ADDR_new() },
            connections: Vec::new(),
            buffer: vec![0; 20_000],
        }
    }

    /// A hello of a client not known yet; what to send.
    pub fn listen(&mut self, datagram: &[u8]) -> Vec<u8> {
        self.listening.put(datagram);
        // SAFETY: both are live.
        let result = unsafe { DTLSv1_listen(self.listening.ssl, self.address) };
        if result == 1 {
            let next = Connection::new(&self.context);
            let connection = std::mem::replace(&mut self.listening, next);
            self.connections.push(connection);
            return self.accept(self.connections.len() - 1, &[]);
        }
        let length = self.listening.take(&mut self.buffer);
        self.buffer[..length].to_vec()
    }

    /// What follows of the handshake.
    pub fn accept(&mut self, connection: usize, datagram: &[u8]) -> Vec<u8> {
        let connection = &self.connections[connection];
        if !datagram.is_empty() {
            connection.put(datagram);
        }
        // SAFETY: the object is live.
        unsafe {
            ffi::ERR_clear_error();
            ffi::SSL_accept(connection.ssl)
        };
        let length = connection.take(&mut self.buffer);
        self.buffer[..length].to_vec()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // SAFETY: made in `new`, not used any more.
        unsafe { BIO_ADDR_free(self.address) };
    }
}

/// The client's datagrams.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl std::io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.input.is_empty() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let length = self.input.len();
        buffer[..length].copy_from_slice(&self.input);
        self.input.clear();
        Ok(length)
    }
}

impl std::io::Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> std::io::Result<usize> {
        self.output.extend_from_slice(datagram);
        Ok(datagram.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub struct Client(SslStream<Pipe>);

impl Client {
    pub fn context() -> SslContext {
        let mut builder = SslContext::builder(SslMethod::dtls_client()).unwrap();
        builder
            .set_max_proto_version(Some(SslVersion::DTLS1_2))
            .unwrap();
        builder.set_cipher_list(SUITE).unwrap();
        builder.set_security_level(0);
        builder.set_options(SslOptions::NO_QUERY_MTU);
        builder.set_psk_client_callback(|_, _, identity, key| {
            let own = format!("urn:imei:{}\0", NEXT.fetch_add(1, Ordering::Relaxed));
            identity[..own.len()].copy_from_slice(own.as_bytes());
            key[..KEY.len()].copy_from_slice(KEY);
            Ok(KEY.len())
        });
        builder.build()
    }

    pub fn new(context: &SslContext) -> Self {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_mtu(1200).unwrap();
        ssl.set_connect_state();
        Self(SslStream::new(ssl, Pipe::default()).unwrap())
    }

    /// Goes on with the handshake; what to send.
    pub fn handshake(&mut self, datagrams: &[u8]) -> Vec<u8> {
        self.0.get_mut().input = datagrams.to_vec();
        if let Err(error) = self.0.do_handshake() {
            assert_eq!(error.code(), ErrorCode::WANT_READ, "{error}");
        }
        std::mem::take(&mut self.0.get_mut().output)
    }

    pub fn is_connected(&self) -> bool {
        self.0.ssl().is_init_finished()
    }

    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        self.0.ssl_write(payload).unwrap();
        std::mem::take(&mut self.0.get_mut().output)
    }
}
