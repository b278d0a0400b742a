import ArgumentParser

/// What runs a graph, as `--backend` spells it.
public enum BackendName: String, ExpressibleByArgument, CaseIterable, Sendable {
  case onednn, reference
}
