# The part of Concrete's serialised values and keys that Veil writes or reads, declared by its field ordinals only.
# A test compares what is written by it with what Concrete itself serialises.
@0xb0f9d6a1c3e27d54;

struct Value {
  payload @0 :Payload;
  rawInfo @1 :RawInfo;
  typeInfo @2 :TypeInfo;
}

struct Payload { data @0 :List(Data); }

struct Shape { dimensions @0 :List(UInt32); }

struct RawInfo {
  shape @0 :Shape;
  integerPrecision @1 :UInt32;
  isSigned @2 :Bool;
}

struct Empty {}

struct TypeInfo {
  union {
    lweCiphertext @0 :LweCiphertext;
    plaintext @1 :Empty;
    index @2 :Empty;
  }
}

struct LweCiphertext {
  abstractShape @0 :Shape;
  concreteShape @1 :Shape;
  integerPrecision @2 :UInt32;
  encryption @3 :Encryption;
  compression @4 :Compression;
  encoding :union {
    integer @5 :IntegerEncoding;
    boolean @6 :Empty;
  }
}

enum Compression {
  none @0;
  seed @1;
  paillier @2;
}

struct Encryption {
  keyId @0 :UInt32;
  variance @1 :Float64;
  lweDimension @2 :UInt32;
  modulus @3 :Modulus;
}

struct Modulus {
  modulus :union {
    native @0 :Empty;
    powerOfTwo @1 :Empty;
    integer @2 :Empty;
  }
}

struct IntegerEncoding {
  width @0 :UInt32;
  isSigned @1 :Bool;
  mode :union {
    native @2 :Empty;
    chunked @3 :Empty;
    crt @4 :Empty;
  }
}

struct Keyset {
  server @0 :AnyPointer;
  client @1 :ClientKeyset;
}

struct ClientKeyset { lweSecretKeys @0 :List(LweSecretKey); }

struct LweSecretKey {
  info @0 :LweSecretKeyInfo;
  payload @1 :Payload;
}

struct LweSecretKeyInfo { id @0 :UInt32; }

struct EvaluationKeyset {
  lweBootstrapKeys @0 :List(EvaluationKey);
  lweKeyswitchKeys @1 :List(EvaluationKey);
}

struct EvaluationKey {
  info @0 :AnyPointer;
  payload @1 :Payload;
}
