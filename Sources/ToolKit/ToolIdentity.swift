/// The version all four programs, and the containers they write, carry.
public enum ToolIdentity {
  /// Version of this source tree, as in CHANGELOG.
  public static let version = "0.1.0"
}
