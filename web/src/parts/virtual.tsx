import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
  type VirtualItem,
} from "@tanstack/virtual-core";
import { Component, type ComponentChildren, createRef } from "preact";

interface Props {
  count: number;
  rowHeight: number;
  /** Draws a row at a distance from the top, in pixels. */
  row: (index: number, top: number) => ComponentChildren;
  /** Drawn even while it is out of view, because it has the focus. */
  pinned?: number;
  class?: string;
  header?: ComponentChildren;
  /** Keeps the end in view while rows are added, if it is in view. */
  stick?: boolean;
  attributes?: Record<string, unknown>;
}

/** A list that has only the rows in view in the document. */
export class VirtualList extends Component<Props> {
  private readonly scroller = createRef<HTMLDivElement>();
  private virtualizer: Virtualizer<HTMLDivElement, Element> | null = null;
  private unmount: (() => void) | undefined;
  private atEnd = true;

  private options() {
    return {
      count: this.props.count,
      getScrollElement: () => this.scroller.current,
      estimateSize: () => this.props.rowHeight,
      overscan: 6,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      onChange: () => this.setState({}),
    } as const;
  }

  override componentDidMount(): void {
    this.virtualizer = new Virtualizer<HTMLDivElement, Element>(this.options());
    this.unmount = this.virtualizer._didMount();
    this.virtualizer._willUpdate();
    this.setState({});
  }

  override componentWillUnmount(): void {
    this.unmount?.();
  }

  override componentDidUpdate(previous: Props): void {
    this.virtualizer?._willUpdate();
    const element = this.scroller.current;
    if (this.props.stick && element && this.props.count !== previous.count && this.atEnd) element.scrollTop = element.scrollHeight;
  }

  scrollTo(index: number, align: "auto" | "center" = "auto"): void {
    this.virtualizer?.scrollToIndex(index, { align });
  }

  get element(): HTMLDivElement | null {
    return this.scroller.current;
  }

  override render({ count, rowHeight, row, pinned, header, attributes, ...rest }: Props) {
    let items: VirtualItem[] = [];
    if (this.virtualizer) {
      this.virtualizer.setOptions(this.options());
      items = this.virtualizer.getVirtualItems();
    }
    const pinnedOut = pinned !== undefined && pinned >= 0 && pinned < count && !items.some((item) => item.index === pinned);
    return (
      <div
        class={`virtual ${rest.class ?? ""}`}
        ref={this.scroller}
        onScroll={() => {
          const element = this.scroller.current;
          if (element) this.atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - rowHeight;
        }}
        {...attributes}
      >
        {header}
        <div class="virtual-rows" role="presentation" style={{ height: `${count * rowHeight}px` }}>
          {items.map((item) => row(item.index, item.start))}
          {pinnedOut && row(pinned, pinned * rowHeight)}
        </div>
      </div>
    );
  }
}
