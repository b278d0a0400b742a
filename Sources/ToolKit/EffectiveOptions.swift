/// The record of options that change a result: by name, normalised, defaults included.
public enum EffectiveOptions {
  /// Value of an option that was not given and has no default.
  public static let none = "none"

  /// Several values of one option, sorted by the caller.
  public static func list(_ values: [String]) -> String {
    values.isEmpty ? none : values.joined(separator: " ")
  }

  /// The command that a container records: the same for one run and for two steps, without paths.
  public static func command(_ options: [String: String]) -> String {
    let words = options.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    return (["qtools"] + words).joined(separator: " ")
  }
}
